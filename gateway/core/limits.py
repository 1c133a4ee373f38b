"""Limits: what a key, a team or a tier may do, and what a call may take. `state/lua/verdict.lua` decides."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

PER_MINUTE_MAX = 10**8  # a bucket counts in up to 1/60,000,000 of a token, and its level must stay below 2**53
CONCURRENCY_MAX = 10_000
MONTHLY_TOKENS_MAX = 10**12
MODEL_LIMITS_MAX = 16
GLOB_CHARS_MAX = 200

BYTES_PER_TOKEN_EXPECTED = 3
TEMPLATE_TOKENS_EXPECTED = 4  # what one usually adds: a role and its marks
TEMPLATE_TOKENS_MAX = 64  # what a chat template may add to one message
IMAGE_TOKENS_MAX = 4_096

PerMinute = Annotated[int, Meta(ge=1, le=PER_MINUTE_MAX)]
Concurrency = Annotated[int, Meta(ge=1, le=CONCURRENCY_MAX)]
MonthlyTokens = Annotated[int, Meta(ge=1, le=MONTHLY_TOKENS_MAX)]
Glob = Annotated[str, Meta(min_length=1, max_length=GLOB_CHARS_MAX)]


class ModelLimits(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Limits of the calls to some models alone, beside the owner's own. null: no such limit."""

    rate_limit_per_min: PerMinute | None = None
    tokens_per_min: PerMinute | None = None


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one owner says of each limit. Left out: nothing, so the tier or the default decides; null: unlimited.

    `burst` is how many requests may come at once (null: a minute's worth). `model_limits` is by a glob of model names:
    each is a limit of its own on all calls that it matches.
    """

    rate_limit_per_min: PerMinute | UnsetType | None = UNSET
    burst: PerMinute | UnsetType | None = UNSET
    tokens_per_min: PerMinute | UnsetType | None = UNSET
    concurrency: Concurrency | UnsetType | None = UNSET
    monthly_token_limit: MonthlyTokens | UnsetType | None = UNSET
    model_limits: Annotated[dict[Glob, ModelLimits], Meta(max_length=MODEL_LIMITS_MAX)] | UnsetType = UNSET


def said(limits: Limits) -> dict[str, Any]:
    """What `limits` says, by name, as JSON would: what it leaves out is left out."""
    found: dict[str, Any] = msgspec.to_builtins(limits)
    return found


def overlay(*layers: Limits) -> Limits:
    """For each limit what the last layer that says anything says."""
    together: dict[str, Any] = {}
    for layer in layers:
        together |= said(layer)
    return msgspec.convert(together, Limits)


class Estimate(Struct, frozen=True):
    """What a call may take, in tokens. `prompt_max`: no less than the request holds; `prompt_expected`: the likely."""

    prompt_max: int
    prompt_expected: int
    output_max: int


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
    return Estimate(
        prompt_max=prompt_bytes + fixed,
        prompt_expected=prompt_expected(prompt_bytes, messages, images),
        output_max=output_max,
    )
