"""Money is whole millionths."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.pricing import (
    ANY,
    CREDITS_MICRO_MAX,
    MICRO,
    MULTIPLIER_MILLI_MAX,
    PRICE_MICRO_MAX,
    Price,
    cost,
    credits,
    micro,
    valid,
    with_multiplier,
)

SIMPLEST = Price(model=ANY, valid_from_ms=0, per_request_micro=MICRO)
PART = st.integers(0, PRICE_MICRO_MAX)
TOKENS = st.integers(0, 10**7)


def test_in_the_simplest_setup_a_call_costs_one_credit_whatever_it_is() -> None:
    assert credits(cost(SIMPLEST, 0, 0)) == credits(cost(SIMPLEST, 10**6, 10**6)) == 1
    assert credits(cost(with_multiplier(SIMPLEST, 2_000), 5, 5)) == 2


@given(PART, PART, PART, st.integers(0, MULTIPLIER_MILLI_MAX), TOKENS, TOKENS)
def test_a_cost_is_the_exact_one_rounded_up_by_less_than_a_millionth_a_part(
    request: int, prompt: int, completion: int, multiplier: int, prompt_tokens: int, completion_tokens: int
) -> None:
    price = with_multiplier(
        Price(
            model=ANY,
            valid_from_ms=0,
            per_request_micro=request,
            per_1k_prompt_micro=prompt,
            per_1k_completion_micro=completion,
        ),
        multiplier,
    )
    parts = (
        Fraction(request * multiplier, 1_000),
        *(Fraction(part * multiplier, 1_000) for part in (prompt, completion)),
    )
    exact = parts[0] + (parts[1] * prompt_tokens + parts[2] * completion_tokens) / 1_000
    rounded = 3 + Fraction(prompt_tokens + completion_tokens, 1_000)
    assert exact <= cost(price, prompt_tokens, completion_tokens) < exact + rounded
    assert cost(price, prompt_tokens, completion_tokens) <= CREDITS_MICRO_MAX


def test_the_newest_price_that_has_begun_counts_and_without_one_the_default() -> None:
    prices = [
        SIMPLEST,
        Price(model="a:b", valid_from_ms=100, per_request_micro=1),
        Price(model="a:b", valid_from_ms=200, per_request_micro=2),
        Price(model=ANY, valid_from_ms=150, per_request_micro=3),
    ]
    found = {at: valid(prices, "a:b", at) for at in (0, 99, 100, 199, 200)}
    assert [price and price.per_request_micro for price in found.values()] == [MICRO, MICRO, 1, 1, 2]
    assert [(price := valid(prices, "c:d", at)) and price.per_request_micro for at in (149, 150)] == [MICRO, 3]
    assert valid(prices[1:3], "c:d", 500) is None


@pytest.mark.parametrize(("text", "millionths"), [("1", MICRO), ("0.000001", 1), ("-2.5", -2_500_000), ("1e3", 10**9)])
def test_credits_are_read_exactly(text: str, millionths: int) -> None:
    assert micro(Decimal(text)) == millionths


@pytest.mark.parametrize("text", ["0.0000001", "1e-7", "NaN", "Infinity", "-Infinity"])
def test_what_is_finer_than_a_millionth_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="six decimals"):
        micro(Decimal(text))


@pytest.mark.parametrize(
    ("micro", "shown"), [(0, 0), (2_000_000, 2), (1_500_000, 1.5), (1, 0.000001), (-500_000, -0.5)]
)
def test_people_read_credits(micro: int, shown: float) -> None:
    assert credits(micro) == shown
    assert isinstance(credits(micro), type(shown))


@given(st.integers(-(10**12), 10**12))
def test_nothing_is_lost_in_showing(micro: int) -> None:
    assert round(Fraction(str(credits(micro))) * MICRO) == micro
