"""The end of a call: settled by its replica, voided when nobody knows, reaped when its replica died."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import usage
from gateway.core.call import Bill
from gateway.core.limits import Limits
from gateway.core.pricing import MICRO
from gateway.core.record import Spent
from gateway.core.tally import if_lost
from gateway.core.usage import Detail, detail_json
from gateway.errors import KeysNotLoaded, LeaseLost, LimitsUnavailable
from gateway.state.limiter import LEASE_MS
from tests.buckets import kept
from tests.fakes import KEY, Bench, call, call_id, credential_of, refused

LIMITS = Limits(rate_limit_per_min=60, tokens_per_min=600, concurrency=9, monthly_token_limit=10_000)
CREDITS: dict[str, Any] = {"metered": True, "granted_micro": 5 * MICRO}
GRACE_MS = 3_000
ONE = call(1)  # holds 20 tokens of prompt and 100 of output, expects 10 and 100


def bill(prompt: int = 12, completion: int = 34, **changes: Any) -> Bill:
    detail = Detail(model="m:latest", backend="node")
    bill = Bill(
        prompt_tokens=prompt, completion_tokens=completion, paid=True, estimated=False, whole=True, detail=detail
    )
    return replace(bill, **changes)


@pytest.fixture(autouse=True)
async def key(bench: Bench) -> None:
    await bench.publish(LIMITS, Spent(month="202611", tokens=100), **CREDITS)


async def admit(bench: Bench, number: int = 1) -> Any:
    return await bench.limiter.admit(call(number), "", detail_json(if_lost(call(number))))


async def reap(bench: Bench, number: int = 1) -> bool:
    return await bench.limiter.reap(0, credential_of(KEY).key_id, call_id(number), GRACE_MS)


def level(bench: Bench, kind: str) -> float:
    bucket = kept(bench.hash("buckets")[kind])
    return bucket.level / bucket.den


async def test_a_settled_call_has_one_event_that_a_worker_can_read(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    ((_, fields),) = bench.redis.xrange("{s00}:usage")
    event = usage.decode(fields)
    assert (event.id, event.key_id, event.month) == (ONE.id, credential_of(KEY).key_id, "202611")
    assert (event.prompt_tokens, event.completion_tokens, event.credits_micro, event.estimated) == (
        12,
        34,
        MICRO,
        False,
    )
    assert (event.at_ms, event.detail) == (bench.now_us // 1_000, bill().detail)


async def test_what_was_held_is_given_back_and_what_was_used_is_charged(bench: Bench) -> None:
    await admit(bench)
    held = bench.hash("account")
    assert (held["held:202611"], held["credit_held"], held["charged"]) == ("120", str(MICRO), "0")
    await bench.limiter.settle(ONE, bill())
    after = bench.hash("account")
    assert (after["held:202611"], after["credit_held"], after["charged"]) == ("0", "0", str(MICRO))
    assert after["spent:202611"] == "146"
    assert level(bench, "tokens") == 600 - 46
    assert bench.redis.zcard("{s00}:leases") == bench.redis.zcard(f"{{s00}}:running:{credential_of(KEY).key_id}") == 0


async def test_settling_twice_is_settling_once(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    state = bench.everything()
    for again in (bill(), bill(prompt=999, paid=False)):
        await bench.limiter.settle(ONE, again)
    assert bench.everything() == state


async def test_settling_what_was_never_admitted_does_nothing(bench: Bench) -> None:
    state = bench.everything()
    await bench.limiter.settle(ONE, bill())
    assert bench.everything() == state


async def test_a_call_that_took_more_than_expected_leaves_a_debt_that_is_repaid_first(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill(prompt=12, completion=1_188))
    assert level(bench, "tokens") == -600
    error = await refused(admit(bench, 2))
    assert error.retry_after_s == 71  # 600 of debt and 110 expected, at 10 a second
    bench.tick(71_000_000)
    await admit(bench, 2)


async def test_a_refund_never_fills_a_bucket_beyond_its_capacity(bench: Bench) -> None:
    await admit(bench)
    bench.tick(60_000_000)
    await bench.limiter.settle(ONE, bill(prompt=0, completion=0))
    assert level(bench, "tokens") == 600


async def test_a_call_admitted_before_there_was_a_token_limit_gets_nothing_back_from_it(bench: Bench) -> None:
    await bench.publish(replace(LIMITS, tokens_per_min=None), **CREDITS)
    await admit(bench)
    await bench.publish(LIMITS, **CREDITS)
    await admit(bench, 2)
    await bench.limiter.settle(ONE, bill(prompt=12, completion=34))
    assert level(bench, "tokens") == 600 - 110 - 46


async def test_a_call_that_is_not_to_be_paid_costs_its_tokens_and_no_credits(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill(paid=False))
    account = bench.hash("account")
    assert (account["charged"], account["credit_held"], account["spent:202611"]) == ("0", "0", "146")
    assert bench.events()[0]["credits"] == "0"


async def test_a_key_without_credits_is_charged_none(bench: Bench) -> None:
    await bench.publish(LIMITS)
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    assert bench.events()[0]["credits"] == "0"
    assert bench.hash("account")["charged"] == "0"


async def test_a_call_belongs_to_the_month_it_was_admitted_in(bench: Bench) -> None:
    await admit(bench)
    bench.tick(20 * 86_400_000_000)
    await bench.limiter.settle(ONE, bill())
    account = bench.hash("account")
    assert (account["spent:202611"], account["held:202611"]) == ("146", "0")
    assert (bench.events()[0]["month"], "spent:202612" in account) == ("202611", False)


async def test_a_revoked_key_still_pays_for_what_runs(bench: Bench) -> None:
    await admit(bench)
    await bench.publish(LIMITS, enabled=False, **CREDITS)
    await bench.limiter.settle(ONE, bill())
    assert len(bench.events()) == 1


async def test_a_bill_that_is_no_number_changes_nothing(bench: Bench) -> None:
    await admit(bench)
    state = bench.everything()
    for wrong in (bill(prompt=-1), bill(completion=2**53)):
        with pytest.raises(LimitsUnavailable):
            await bench.limiter.settle(ONE, wrong)
    assert bench.everything() == state


async def test_a_call_that_cost_nothing_leaves_no_figure_that_seems_to_come_from_postgres(bench: Bench) -> None:
    await admit(bench)
    bench.redis.delete(f"{{s00}}:account:{credential_of(KEY).key_id}")
    await bench.limiter.settle(ONE, bill(prompt=0, completion=0, paid=False))
    assert not {"charged", "spent:202611"} & bench.hash("account").keys()
    assert type(await refused(admit(bench, 2))) is KeysNotLoaded


# -- void ----------------------------------------------------------------------------------------------------------


async def test_a_voided_call_never_was(bench: Bench) -> None:
    """All is as before, but for zeros and the memory of its id."""
    await admit(bench, 2)
    before = bench.hash("account"), level(bench, "requests"), level(bench, "tokens")
    await admit(bench)
    await bench.limiter.void(ONE)
    assert (bench.hash("account"), level(bench, "requests"), level(bench, "tokens")) == before
    assert bench.events() == []
    assert bench.redis.zcard("{s00}:leases") == 1


async def test_an_admission_that_runs_after_its_void_is_refused(bench: Bench) -> None:
    """A hung Redis may take both from its socket in any order once it goes on."""
    await bench.limiter.void(ONE)
    state = bench.everything()
    error = await refused(admit(bench))
    assert type(error) is LimitsUnavailable
    assert bench.everything() == state


async def test_voiding_twice_is_voiding_once_and_what_is_settled_stays_so(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.void(ONE)
    await admit(bench, 2)
    await bench.limiter.settle(call(2), bill())
    state = bench.everything()
    for number in (1, 2):
        await bench.limiter.void(call(number))
    await bench.limiter.settle(ONE, bill())
    assert bench.everything() == state


async def test_what_is_over_is_remembered_without_its_detail(bench: Bench) -> None:
    """Which is the longest part of a lease, and tells of a client."""
    for number, end in enumerate((bench.limiter.settle(ONE, bill()), bench.limiter.void(call(2))), 1):
        await admit(bench, number)
        assert bench.redis.hget(f"{{s00}}:lease:{call_id(number)}", "detail")
        await end
        assert not bench.redis.hget(f"{{s00}}:lease:{call_id(number)}", "detail")


async def test_what_is_over_is_remembered_for_an_hour_and_not_for_ever(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    await bench.limiter.void(call(2))
    for number in (1, 2):
        assert 3_590_000 < bench.redis.pttl(f"{{s00}}:lease:{call_id(number)}") <= 3_600_000
    await admit(bench, 3)
    assert bench.redis.pttl(f"{{s00}}:lease:{call_id(3)}") == -1, "an open lease is never forgotten"


# -- renew and reap ------------------------------------------------------------------------------------------------


async def test_a_lease_is_reaped_after_its_deadline_and_the_grace_and_not_before(bench: Bench) -> None:
    await admit(bench)
    bench.tick((LEASE_MS + GRACE_MS) * 1_000 - 1)
    state = bench.everything()
    assert not await reap(bench)
    assert bench.everything() == state
    bench.tick(1)
    assert await reap(bench)
    assert not await reap(bench)


async def test_a_renewed_lease_is_left_alone_for_as_long_again(bench: Bench) -> None:
    await admit(bench)
    bench.tick((LEASE_MS + GRACE_MS) * 1_000 - 1)
    assert await bench.limiter.renew(ONE, 10, 64) is None
    bench.tick((LEASE_MS + GRACE_MS) * 1_000 - 1_000)
    assert not await reap(bench)
    bench.tick(1_000)
    assert await reap(bench)


@pytest.mark.parametrize(
    ("renewals", "prompt", "completion", "charged"),
    [([], 10, 0, 0), ([(10, 0)], 10, 0, 0), ([(10, 64)], 10, 64, MICRO), ([(10, 64), (11, 128)], 11, 128, MICRO)],
)
async def test_a_reaped_call_is_charged_by_its_last_count(
    bench: Bench, renewals: list[tuple[int, int]], prompt: int, completion: int, charged: int
) -> None:
    await admit(bench)
    for counts in renewals:
        await bench.limiter.renew(ONE, *counts)
    bench.tick((LEASE_MS + GRACE_MS) * 1_000)
    assert await reap(bench)
    ((_, fields),) = bench.redis.xrange("{s00}:usage")
    event = usage.decode(fields)
    assert (event.prompt_tokens, event.completion_tokens, event.credits_micro) == (prompt, completion, charged)
    assert (event.estimated, event.detail.status) == (True, "replica_lost")
    assert bench.hash("account")["spent:202611"] == str(100 + prompt + completion)
    assert level(bench, "tokens") == min(
        600, 600 + 110 - prompt - completion
    )  # full again, but for what was not expected


async def test_a_replica_that_was_only_slow_settles_nothing_after_the_reaper(bench: Bench) -> None:
    await admit(bench)
    bench.tick((LEASE_MS + GRACE_MS) * 1_000)
    await reap(bench)
    state = bench.everything()
    assert await bench.limiter.renew(ONE, 10, 999) is LeaseLost
    await bench.limiter.settle(ONE, bill())
    assert bench.everything() == state


async def test_a_settled_call_is_not_reaped(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    bench.tick(3_600_000_000)
    assert not await reap(bench)
    assert len(bench.events()) == 1


async def test_a_lease_whose_record_is_gone_leaves_no_trace(bench: Bench) -> None:
    await admit(bench)
    bench.redis.delete(f"{{s00}}:lease:{ONE.id}")
    bench.tick((LEASE_MS + GRACE_MS) * 1_000)
    assert not await reap(bench)
    assert bench.redis.zcard("{s00}:leases") == 0
    assert bench.redis.zcard(f"{{s00}}:running:{credential_of(KEY).key_id}") == 0
