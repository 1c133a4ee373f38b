"""The end of a call: settled by its replica, voided when nobody knows, reaped when its replica died; and publish."""

from collections.abc import AsyncIterator
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
from gateway.errors import LimitsUnavailable
from gateway.state.limiter import LEASE_MS
from tests.fakes import KEY, Bench, call, call_id, credential_of, record, refused

LIMITS = Limits(requests_per_min=60, tokens_per_min=600, concurrency=9, monthly_tokens=10_000, credits_micro=5 * MICRO)
GRACE_MS = 3_000
ONE = call(1)  # holds 20 tokens of prompt and 100 of output, expects 30, 10 of them prompt


def bill(prompt: int = 12, completion: int = 34, credits: int = MICRO, **changes: Any) -> Bill:
    detail = Detail(model="m:latest", backend="node")
    return replace(
        Bill(prompt_tokens=prompt, completion_tokens=completion, credits_micro=credits, estimated=False, detail=detail),
        **changes,
    )


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    one = Bench(redis_url)
    await one.publish(LIMITS, Spent(month="202611", tokens=100))
    yield one
    one.close()


async def admit(bench: Bench, number: int = 1) -> Any:
    return await bench.limiter.admit(call(number), "", detail_json(if_lost(call(number))))


async def reap(bench: Bench, number: int = 1) -> bool:
    return await bench.limiter.reap(0, credential_of(KEY).key_id, call_id(number), GRACE_MS)


def level(bench: Bench, kind: str) -> float:
    bucket = bench.hash(kind)
    return int(bucket["level"]) / int(bucket["den"])


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
    assert (held["held:202611"], held["credit_held"], held["credit"]) == ("120", str(MICRO), str(5 * MICRO))
    await bench.limiter.settle(ONE, bill())
    after = bench.hash("account")
    assert (after["held:202611"], after["credit_held"], after["credit"]) == ("0", "0", str(4 * MICRO))
    assert after["spent:202611"] == "146"
    assert level(bench, "tokens") == 600 - 46
    assert bench.redis.zcard("{s00}:leases") == bench.redis.zcard(f"{{s00}}:running:{credential_of(KEY).key_id}") == 0


async def test_settling_twice_is_settling_once(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    state = bench.everything()
    for again in (bill(), bill(prompt=999, credits=0)):
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
    assert error.retry_after_s == 63  # 600 of debt and 30 expected, at 10 a second
    bench.tick(63_000_000)
    await admit(bench, 2)


async def test_a_refund_never_fills_a_bucket_beyond_its_capacity(bench: Bench) -> None:
    await admit(bench)
    bench.tick(60_000_000)
    await bench.limiter.settle(ONE, bill(prompt=0, completion=0))
    assert level(bench, "tokens") == 600


async def test_a_call_admitted_before_there_was_a_token_limit_gets_nothing_back_from_it(bench: Bench) -> None:
    await bench.publish(replace(LIMITS, tokens_per_min=None))
    await admit(bench)
    await bench.publish(LIMITS)
    await admit(bench, 2)
    await bench.limiter.settle(ONE, bill(prompt=12, completion=34))
    assert level(bench, "tokens") == 600 - 30 - 46


@pytest.mark.parametrize("credits", [0, MICRO // 2, MICRO, 3 * MICRO])
async def test_no_more_credit_is_charged_than_was_held(bench: Bench, credits: int) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill(credits=credits))
    charged = min(credits, MICRO)
    assert int(bench.hash("account")["credit"]) == 5 * MICRO - charged
    assert bench.events()[0]["credits"] == str(charged)


async def test_a_key_without_credits_is_charged_none(bench: Bench) -> None:
    await bench.publish(replace(LIMITS, credits_micro=None))
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    assert bench.events()[0]["credits"] == "0"
    assert int(bench.hash("account")["credit"]) == 5 * MICRO


async def test_a_call_belongs_to_the_month_it_was_admitted_in(bench: Bench) -> None:
    await admit(bench)
    bench.tick(20 * 86_400_000_000)
    await bench.limiter.settle(ONE, bill())
    account = bench.hash("account")
    assert (account["spent:202611"], account["held:202611"]) == ("146", "0")
    assert (bench.events()[0]["month"], "spent:202612" in account) == ("202611", False)


async def test_a_revoked_key_still_pays_for_what_runs(bench: Bench) -> None:
    await admit(bench)
    await bench.publish(LIMITS, enabled=False)
    await bench.limiter.settle(ONE, bill())
    assert len(bench.events()) == 1


async def test_a_bill_that_is_no_number_changes_nothing(bench: Bench) -> None:
    await admit(bench)
    state = bench.everything()
    for wrong in (bill(prompt=-1), bill(completion=2**53), bill(credits=-5)):
        with pytest.raises(LimitsUnavailable):
            await bench.limiter.settle(ONE, wrong)
    assert bench.everything() == state


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
    assert await bench.limiter.renew(ONE, 10, 64)
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
        600, 600 + 30 - prompt - completion
    )  # full again, but for what was not expected


async def test_a_replica_that_was_only_slow_settles_nothing_after_the_reaper(bench: Bench) -> None:
    await admit(bench)
    bench.tick((LEASE_MS + GRACE_MS) * 1_000)
    await reap(bench)
    state = bench.everything()
    assert not await bench.limiter.renew(ONE, 10, 999)
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


# -- publish -------------------------------------------------------------------------------------------------------


async def test_an_older_version_or_the_same_one_never_replaces_what_is_there(bench: Bench) -> None:
    await bench.publish(LIMITS)
    state = bench.everything()
    for version in (bench.version, bench.version - 1, 0):
        await bench.directory.publish(record(Limits(requests_per_min=1), version=version), None)
    assert bench.everything() == state


async def test_a_newer_version_replaces_the_whole_record(bench: Bench) -> None:
    await bench.publish(Limits(requests_per_min=1), enabled=False)
    found = bench.hash("key")
    assert (found["rpm"], found["tpm"], found["concurrency"], found["enabled"]) == ("1", "", "", "0")
    assert found["version"] == str(bench.version)


async def test_spent_and_credit_are_taken_only_where_redis_has_none(bench: Bench) -> None:
    await admit(bench)
    await bench.limiter.settle(ONE, bill())
    await bench.publish(LIMITS, Spent(month="202611", tokens=7, credits_micro=3 * MICRO))
    account = bench.hash("account")
    assert (account["spent:202611"], account["credit"]) == ("146", str(4 * MICRO))
    bench.redis.delete(f"{{s00}}:account:{credential_of(KEY).key_id}")
    await bench.publish(LIMITS, Spent(month="202611", tokens=7, credits_micro=3 * MICRO))
    account = bench.hash("account")
    assert (account["spent:202611"], account["credit"]) == ("7", str(2 * MICRO))


async def test_figures_are_restored_even_where_the_record_is_there(bench: Bench) -> None:
    bench.redis.delete(f"{{s00}}:account:{credential_of(KEY).key_id}")
    bench.version -= 1
    await bench.publish(LIMITS, Spent(month="202611", tokens=7))
    assert bench.hash("account") == {"credit": str(5 * MICRO), "spent:202611": "7"}


async def test_more_spent_than_was_granted_leaves_nothing(bench: Bench) -> None:
    bench.redis.delete(f"{{s00}}:account:{credential_of(KEY).key_id}")
    await bench.publish(LIMITS, Spent(month="202611", tokens=7, credits_micro=99 * MICRO))
    assert bench.hash("account")["credit"] == "0"
