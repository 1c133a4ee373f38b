"""Limits: what a key may do, and what a call may take, in integers. `state/lua/admit.lua` decides between the two."""

from msgspec import Struct

from gateway.core.pricing import MICRO

PER_MINUTE_MAX = 10**8  # a bucket counts in up to 1/60,000,000 of a token, and its level must stay below 2**53

BYTES_PER_TOKEN_EXPECTED = 3
OUTPUT_TOKENS_EXPECTED = 512
TEMPLATE_TOKENS_EXPECTED = 4  # what one usually adds: a role and its marks
TEMPLATE_TOKENS_MAX = 64  # what a chat template may add to one message
IMAGE_TOKENS_MAX = 4_096


class Limits(Struct, frozen=True, kw_only=True):
    """What one key may do. None: unlimited. `credits_micro` is what was granted in all, in millionths of a credit."""

    requests_per_min: int
    tokens_per_min: int | None = None
    concurrency: int | None = None
    monthly_tokens: int | None = None
    credits_micro: int | None = None


class Estimate(Struct, frozen=True):
    """What a call may take, in tokens. `prompt_max`: no less than the request holds; `expected`: the likely total."""

    prompt_max: int
    prompt_expected: int
    expected: int
    output_max: int
    price_micro: int = MICRO


def tokens_expected(text_bytes: int) -> int:
    """The likely tokens of a text of so many UTF-8 bytes."""
    return -(-text_bytes // BYTES_PER_TOKEN_EXPECTED)


def prompt_expected(prompt_bytes: int, messages: int, images: int) -> int:
    """The likely tokens of a prompt, for there is no way to ask a backend without making it work."""
    return tokens_expected(prompt_bytes) + messages * TEMPLATE_TOKENS_EXPECTED + images * IMAGE_TOKENS_MAX


def estimate(*, prompt_bytes: int, messages: int, images: int, output_max: int) -> Estimate:
    """What a call of `prompt_bytes` UTF-8 bytes may take.

    A token of a byte-level vocabulary covers at least one byte, so the bytes bound the prompt from above.
    """
    fixed = (messages + 1) * TEMPLATE_TOKENS_MAX + images * IMAGE_TOKENS_MAX
    likely = prompt_expected(prompt_bytes, messages, images)
    return Estimate(
        prompt_max=prompt_bytes + fixed,
        prompt_expected=likely,
        expected=likely + min(output_max, OUTPUT_TOKENS_EXPECTED),
        output_max=output_max,
    )
