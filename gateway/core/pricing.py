"""Prices: integer millionths of a credit, never floating-point money. `state/lua/price.lua` has the same arithmetic."""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

MICRO = 1_000_000
"""One credit."""
CREDITS_MICRO_MAX = 2**53 - 1
"""Redis counts in doubles: exact up to here."""
ANY = "*"
"""the model of the price of all models that have none of their own"""
PRICE_MICRO_MAX = 1_000 * MICRO
MULTIPLIER_ONE = 1_000
MULTIPLIER_MILLI_MAX = 100 * MULTIPLIER_ONE
PER_TOKENS = 1_000


class Price(Struct, frozen=True, kw_only=True):
    """What calls to `model` (canonical, or `*`) cost from `valid_from_ms` on, in millionths of a credit."""

    id: int = 0
    """its number in Postgres"""
    model: str
    valid_from_ms: int
    per_request_micro: int = 0
    per_1k_prompt_micro: int = 0
    per_1k_completion_micro: int = 0


class PriceList(Struct, frozen=True):
    """All prices, by model and time. `version` grows with every change."""

    version: int
    prices: tuple[Price, ...]


def valid(prices: Iterable[Price], model: str, now_ms: int) -> Price | None:
    """The model's price at that time, or that of `*`; None when there is neither."""
    begun = [price for price in prices if price.valid_from_ms <= now_ms]
    for name in (model, ANY):
        if own := [price for price in begun if price.model == name]:
            return max(own, key=lambda price: price.valid_from_ms)
    return None


def with_multiplier(price: Price, multiplier_milli: int) -> Price:
    """The price for a tier: each part times its multiplier (thousandths), rounded up."""
    return Price(
        model=price.model,
        valid_from_ms=price.valid_from_ms,
        per_request_micro=_up(price.per_request_micro * multiplier_milli, MULTIPLIER_ONE),
        per_1k_prompt_micro=_up(price.per_1k_prompt_micro * multiplier_milli, MULTIPLIER_ONE),
        per_1k_completion_micro=_up(price.per_1k_completion_micro * multiplier_milli, MULTIPLIER_ONE),
    )


def cost(price: Price, prompt_tokens: int, completion_tokens: int) -> int:
    """What a call costs, in millionths; the share of prompt and of completion each rounded up."""
    prompt = _up(prompt_tokens * price.per_1k_prompt_micro, PER_TOKENS)
    return price.per_request_micro + prompt + _up(completion_tokens * price.per_1k_completion_micro, PER_TOKENS)


def credits(micro: int) -> int | float:
    """Millionths as people read them: 1500000 is 1.5, 2000000 is 2."""
    whole, rest = divmod(micro, MICRO)
    return whole if not rest else micro / MICRO


def micro(credits: Decimal) -> int:
    """Credits as millionths. Raises `ValueError` for a number finer than a millionth, or none at all."""
    exact = credits * MICRO if credits.is_finite() else Decimal("NaN")
    if not exact.is_finite() or exact != exact.to_integral_value():
        raise ValueError("credits have at most six decimals")
    return int(exact)


def _up(number: int, by: int) -> int:
    return -(-number // by)
