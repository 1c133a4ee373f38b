"""Credits as people write and read them: numbers with at most six decimals. Inside they are whole millionths."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta

from gateway.core import pricing
from gateway.errors import BadRequest

CREDITS_MAX = 1_000_000_000
DECIMALS_MAX = 3
Credits = Annotated[float, Meta(ge=0, le=CREDITS_MAX)]
Multiplier = Annotated[float, Meta(ge=0, le=pricing.MULTIPLIER_MILLI_MAX / pricing.MULTIPLIER_ONE)]
Part = Annotated[float, Meta(ge=0, le=pricing.PRICE_MICRO_MAX / pricing.MICRO)]
"""one part of a price"""


def micro(credits: float, param: str) -> int:
    """Millionths, from the shortest decimal number that reads as this one. Raises `BadRequest` for a finer one."""
    try:
        return pricing.micro(Decimal(repr(credits)))
    except ValueError:
        raise BadRequest("Credits have at most six decimals.", param=param) from None


def milli(multiplier: float) -> int:
    """Thousandths. Raises `BadRequest` for a finer number."""
    exact = Decimal(repr(multiplier)) * pricing.MULTIPLIER_ONE
    if exact != exact.to_integral_value():
        raise BadRequest(f"A multiplier has at most {DECIMALS_MAX} decimals.", param="multiplier")
    return int(exact)
