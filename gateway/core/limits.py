"""Limits: what a key may do, in integers, without Redis.

A bucket's level is counted in units of 1/den of a token and refills by num units a microsecond, where num/den is
limit / 60 s in lowest terms; so no admission is ever rounded (reference: reliability section 5.1). The atomic step is
`state/lua/admit.lua`; this module decides what to ask it.
"""

from math import gcd

from msgspec import Struct

from gateway.core.pricing import MICRO

MINUTE_US = 60_000_000
PER_MINUTE_MAX = 10**8  # level = limit * den must stay below 2**53, and den is at most 60,000,000

BYTES_PER_TOKEN_EXPECTED = 3
OUTPUT_TOKENS_EXPECTED = 512
TEMPLATE_TOKENS_MAX = 64  # what a chat template may add to one message
IMAGE_TOKENS_MAX = 4_096


class Limits(Struct, frozen=True, kw_only=True):
    """What one key may do. None: unlimited. `credits_micro` is what was granted in all, in millionths of a credit."""

    requests_per_min: int
    tokens_per_min: int | None = None
    concurrency: int | None = None
    monthly_tokens: int | None = None
    credits_micro: int | None = None


class Rate(Struct, frozen=True):
    """A bucket in integers: `full` units at most, `num` units gained a microsecond, `den` units a token."""

    full: int
    num: int
    den: int


class Estimate(Struct, frozen=True):
    """What a call may take, in tokens: `prompt_max` is never less than the truth, `expected` is the likely total."""

    prompt_max: int
    prompt_expected: int
    expected: int
    output_max: int
    price_micro: int = MICRO


def per_minute(limit: int) -> Rate:
    """A bucket that holds `limit` tokens and gains as many a minute."""
    if not 1 <= limit <= PER_MINUTE_MAX:
        raise ValueError(f"a limit per minute is between 1 and {PER_MINUTE_MAX}")
    shared = gcd(limit, MINUTE_US)
    num, den = limit // shared, MINUTE_US // shared
    return Rate(full=limit * den, num=num, den=den)


def estimate(*, prompt_bytes: int, messages: int, images: int, output_max: int) -> Estimate:
    """What a call of `prompt_bytes` UTF-8 bytes may take.

    A token of a byte-level vocabulary covers at least one byte, so the bytes bound the prompt from above.
    """
    fixed = (messages + 1) * TEMPLATE_TOKENS_MAX + images * IMAGE_TOKENS_MAX
    prompt_expected = -(-prompt_bytes // BYTES_PER_TOKEN_EXPECTED) + images * IMAGE_TOKENS_MAX
    return Estimate(
        prompt_max=prompt_bytes + fixed,
        prompt_expected=prompt_expected,
        expected=prompt_expected + min(output_max, OUTPUT_TOKENS_EXPECTED),
        output_max=output_max,
    )
