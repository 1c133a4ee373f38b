"""What a bucket is, in integers: the oracle for `per_minute` in prelude.lua.

A level is counted in units of 1/den of a token and refills by num units a microsecond, where num/den is limit / 60 s in
lowest terms; so no admission is ever rounded (reference: reliability section 5.1).
"""

from math import gcd

from msgspec import Struct

from gateway.core.limits import PER_MINUTE_MAX

MINUTE_US = 60_000_000


class Rate(Struct, frozen=True):
    """A bucket in integers: `full` units at most, `num` units gained a microsecond, `den` units a token."""

    full: int
    num: int
    den: int


def per_minute(limit: int) -> Rate:
    """A bucket that holds `limit` tokens and gains as many a minute."""
    if not 1 <= limit <= PER_MINUTE_MAX:
        raise ValueError(f"a limit per minute is between 1 and {PER_MINUTE_MAX}")
    shared = gcd(limit, MINUTE_US)
    num, den = limit // shared, MINUTE_US // shared
    return Rate(full=limit * den, num=num, den=den)
