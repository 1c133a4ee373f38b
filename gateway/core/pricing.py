"""Prices: integer millionths of a credit, never floating-point money."""

MICRO = 1_000_000
"""One credit."""


def price_of_call() -> int:
    """Every successful call costs one credit."""
    return MICRO


def credits(micro: int) -> int | float:
    """Millionths as people read them: 1500000 is 1.5, 2000000 is 2."""
    whole, rest = divmod(micro, MICRO)
    return whole if not rest else micro / MICRO
