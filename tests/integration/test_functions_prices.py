"""Prices in Redis: which is valid, what is held and charged for it, against the arithmetic of core/pricing.py."""

from random import Random
from typing import Any

import pytest

from gateway.core import pricing
from gateway.core.call import Bill
from gateway.core.limits import Estimate, Limits
from gateway.core.pricing import ANY, MICRO, Price, PriceList
from gateway.core.record import Spent
from gateway.core.usage import Detail
from gateway.errors import CreditsExhausted, KeysNotLoaded
from tests.fakes import AT_US, KEY, MODEL, Bench, call, credential_of, record, refused

NOTHING = Spent(month="202611")
KEY_ID = credential_of(KEY).key_id
NOW_MS = AT_US // 1_000
OTHER = "qwen3:8b"


def bill(prompt: int, completion: int, *, paid: bool = True) -> Bill:
    return Bill(
        prompt_tokens=prompt, completion_tokens=completion, paid=paid, estimated=False, whole=True, detail=Detail()
    )


async def prices(bench: Bench, *each: Price) -> None:
    bench.version += 1
    await bench.directory.publish_prices(PriceList(bench.version, each))


async def metered(bench: Bench, granted_micro: int = 10**15, **changes: Any) -> None:
    """A key with so many credits, whatever prices there are."""
    await bench.publish(Limits(), NOTHING, metered=True, granted_micro=granted_micro, **changes)


async def told(bench: Bench, model: str = MODEL, prompt: int = 0, output: int = 1) -> int:
    """What an operator is told that a call costs at most."""
    return (await bench.inspector.explain(KEY_ID, model, Estimate(prompt, prompt, output))).price_micro


async def test_a_model_without_a_price_takes_the_default_never_none(bench: Bench) -> None:
    await metered(bench)
    await prices(bench, Price(model=ANY, valid_from_ms=0, per_request_micro=7), flat(MODEL, 3))
    assert (await told(bench, MODEL), await told(bench, OTHER)) == (3, 7)


def flat(model: str, micro: int, valid_from_ms: int = 0) -> Price:
    return Price(model=model, valid_from_ms=valid_from_ms, per_request_micro=micro)


async def test_a_price_is_valid_from_its_millisecond_on(bench: Bench) -> None:
    await metered(bench)
    later = NOW_MS + 1_000
    await prices(bench, flat(MODEL, 3), flat(MODEL, 5, later), flat(ANY, 7), flat(OTHER, 9, later))
    bench.set_clock(later * 1_000 - 1)
    assert (await told(bench, MODEL), await told(bench, OTHER)) == (3, 7)
    bench.tick(1)
    assert (await told(bench, MODEL), await told(bench, OTHER)) == (5, 9)


async def test_a_call_is_settled_at_the_price_of_its_admission(bench: Bench) -> None:
    await metered(bench, multiplier_milli=2_000)
    await prices(bench, flat(ANY, 3 * MICRO))
    await bench.limiter.admit(call(1), "", b"{}")
    await prices(bench, flat(ANY, 9 * MICRO))
    await metered(bench, multiplier_milli=1_000)
    await bench.limiter.settle(call(1), bill(1, 1))
    assert bench.hash("account")["charged"] == bench.events()[0]["credits"] == str(6 * MICRO)


async def test_the_simplest_set_up_one_credit_a_call_two_in_the_basic_tier(bench: Bench) -> None:
    """Every successful call costs one credit, basic tier 2, premium 1; a failure is refunded in full."""
    for number, (multiplier, paid, credits) in enumerate([(2_000, True, 2), (1_000, True, 1), (2_000, False, 0)]):
        before = int(bench.hash("account").get("charged", 0))
        await metered(bench, multiplier_milli=multiplier)
        await bench.limiter.admit(call(number), "", b"{}")
        await bench.limiter.settle(call(number), bill(5, 5, paid=paid))
        assert int(bench.hash("account")["charged"]) - before == credits * MICRO


@pytest.mark.parametrize("listed", [None, ()], ids=["no list at all", "an empty list"])
async def test_without_prices_metered_keys_wait_and_others_do_not(
    bench: Bench, listed: tuple[Price, ...] | None
) -> None:
    await metered(bench)
    if listed is None:
        bench.redis.delete("{s00}:prices")
    else:
        await prices(bench, *listed)
    assert type(await refused(bench.limiter.admit(call(1), "", b"{}"))) is KeysNotLoaded
    bench.version += 1
    await bench.directory.publish(record(Limits(), version=bench.version), None)
    await bench.limiter.admit(call(2), "", b"{}")


async def test_the_output_is_cut_to_what_the_credits_pay_and_no_balance_goes_below_zero(
    bench: Bench, seed: str
) -> None:
    chance = Random(seed)
    for number in range(300):
        parts = [chance.choice([0, 1, 999, 333_333, 7 * MICRO]) for _ in range(3)]
        price = Price(
            model=MODEL,
            valid_from_ms=0,
            per_request_micro=parts[0],
            per_1k_prompt_micro=parts[1],
            per_1k_completion_micro=parts[2],
        )
        await prices(bench, price)
        left, prompt, wanted = chance.randint(0, 20 * MICRO), chance.randint(0, 2_000), chance.randint(1, 5_000)
        charged = int(bench.hash("account").get("charged", 0))
        await metered(bench, granted_micro=charged + left)
        await prices(bench, price)
        one = call(number, estimate=Estimate(prompt, 0, wanted))
        if pricing.cost(price, prompt, 1) > left:
            assert type(await refused(bench.limiter.admit(one, "", b"{}"))) is CreditsExhausted
            continue
        granted = (await bench.limiter.admit(one, "", b"{}")).output_tokens_max
        assert 1 <= granted <= wanted
        assert pricing.cost(price, prompt, granted) <= left
        assert granted == wanted or pricing.cost(price, prompt, granted + 1) > left
        await bench.limiter.settle(one, bill(prompt, granted))
        spent = int(bench.hash("account")["charged"]) - charged
        assert spent == pricing.cost(price, prompt, granted) <= left


async def test_more_than_was_held_is_never_charged(bench: Bench) -> None:
    """A backend that counts more tokens than it was allowed to make."""
    await metered(bench, granted_micro=MICRO)
    await prices(bench, Price(model=ANY, valid_from_ms=0, per_1k_completion_micro=MICRO))
    admitted = await bench.limiter.admit(call(1, estimate=Estimate(0, 0, 10**6)), "", b"{}")
    assert admitted.output_tokens_max == 1_000
    await bench.limiter.settle(call(1), bill(0, 5_000))
    assert bench.hash("account")["charged"] == str(MICRO)
