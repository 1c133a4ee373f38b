"""Money is whole millionths."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.pricing import MICRO, credits, price_of_call


def test_a_call_costs_one_credit() -> None:
    assert credits(price_of_call()) == 1


@pytest.mark.parametrize(
    ("micro", "shown"), [(0, 0), (2_000_000, 2), (1_500_000, 1.5), (1, 0.000001), (-500_000, -0.5)]
)
def test_people_read_credits(micro: int, shown: float) -> None:
    assert credits(micro) == shown
    assert isinstance(credits(micro), type(shown))


@given(st.integers(-(10**12), 10**12))
def test_nothing_is_lost_in_showing(micro: int) -> None:
    assert round(Fraction(str(credits(micro))) * MICRO) == micro
