"""What a bucket is, in integers: the oracle for `bucket_of` in bucket.lua.

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


def per_minute(limit: int, capacity: int | None = None) -> Rate:
    """A bucket that gains `limit` tokens a minute and holds `capacity`, or as many as it gains."""
    if not 1 <= limit <= PER_MINUTE_MAX:
        raise ValueError(f"a limit per minute is between 1 and {PER_MINUTE_MAX}")
    shared = gcd(limit, MINUTE_US)
    num, den = limit // shared, MINUTE_US // shared
    return Rate(full=(capacity or limit) * den, num=num, den=den)


class Kept(Struct, frozen=True):
    """A bucket as Redis keeps it: level in units, microsecond of its last write, units a token."""

    level: int
    at_us: int
    den: int


def kept(packed: bytes | str) -> Kept:
    """The bucket in a field of the hash, "level:at:den"."""
    text = packed.decode() if isinstance(packed, bytes) else packed
    return Kept(*map(int, text.split(":")))
