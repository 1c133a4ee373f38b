"""Credits and counts, as flags take them and people read them."""

from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation

DECIMALS_MAX = 6


def amount(text: str) -> int | float:
    """Credits as JSON has them: a number with at most six decimals."""
    try:
        number = Decimal(text)
        exact = number.is_finite() and number == round(number, DECIMALS_MAX)
    except InvalidOperation:  # no number, or one of more digits than anybody can mean
        exact = False
    if not exact:
        raise ArgumentTypeError(f"{text!r} is no such number: write it as 10 or 2.5, {DECIMALS_MAX} decimals at most")
    return int(number) if number == number.to_integral_value() else float(number)


def count(text: str) -> int:
    """A whole number from zero on."""
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def credits(number: float) -> str:
    """1 credit, 2 credits."""
    return f"{plain(number)} credit{'' if number == 1 else 's'}"


def plain(number: float | None) -> str:
    """1234567.5 as 1,234,567.5; "" for none."""
    if number is None:
        return ""
    whole, _, rest = f"{abs(number):,.{DECIMALS_MAX}f}".partition(".")
    rest = rest.rstrip("0")
    return f"{'-' if number < 0 else ''}{whole}{f'.{rest}' if rest else ''}"
