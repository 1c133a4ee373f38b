"""The budget of bytes: beyond it no new call comes in and nothing is written; what runs ends in its event."""

from typing import Any

import pytest

from gateway.core.addresses import hashed
from gateway.core.call import Bill
from gateway.core.limits import Estimate, Limits
from gateway.core.names import NAME_CHARS_MAX
from gateway.core.usage import ATTEMPTS_MAX, DURATION_MS_MAX, TOKENS_MAX, Detail, Tried, decode
from gateway.errors import KeyRevoked, MeteringBacklog, Unauthorized, every_error
from gateway.state import keyspace
from gateway.state.functions import Functions, source
from gateway.state.inspector import RedisInspector
from gateway.state.limiter import RedisLimiter
from gateway.web.admin.backend_fields import NAME_CHARS_MAX as NODE_NAME_CHARS_MAX
from gateway.web.intent import END_USER_CHARS_MAX
from tests.fakes import MODEL, SOURCE, STRANGER, Bench, call, credential_of, refused
from tests.integration.prepared import Listener

USAGE, DEAD = keyspace.usage(0), keyspace.usage_dead(0)
BILL = Bill(prompt_tokens=1, completion_tokens=2, paid=True, estimated=False, whole=True, detail=Detail(model=MODEL))


async def publish(bench: Bench, **changes: Any) -> None:
    await bench.publish(Limits(rate_limit_per_min=10**6, monthly_token_limit=10**12), **changes)


def weight(bench: Bench) -> int:
    """Bytes of both streams, as Redis counts them."""
    return sum(bench.redis.memory_usage(name) or 0 for name in (USAGE, DEAD))


def within(bench: Bench, stream_bytes_max: int, **kinds: Any) -> RedisLimiter:
    return RedisLimiter(bench.functions, 1, stream_bytes_max=stream_bytes_max, **kinds)


async def fill(bench: Bench, calls: int, first: int = 1_000) -> None:
    for number in range(first, first + calls):
        await bench.limiter.admit(call(number), "", b"{}")
        await bench.limiter.settle(call(number), BILL)


@pytest.mark.parametrize("where", ["waiting", "dead", "both"])
async def test_a_call_comes_in_at_the_budget_and_none_one_byte_beyond_it(bench: Bench, where: str) -> None:
    await publish(bench)
    await fill(bench, 300)
    if where != "waiting":
        bench.redis.rename(USAGE, DEAD)
    if where == "both":
        await fill(bench, 300, first=2_000)
    bytes_now = weight(bench)
    before = bench.everything()
    error = await refused(within(bench, bytes_now - 1).admit(call(1), "", b"{}"))
    assert (type(error), error.status, error.code) == (MeteringBacklog, 503, "metering_backlog")
    assert error.retry_after_s == 10
    assert bench.everything() == before
    await within(bench, bytes_now).admit(call(1), "", b"{}")
    assert bench.redis.zcard(keyspace.leases(0)) == 1


@pytest.mark.parametrize(("shards", "share"), [(1, 705), (7, 100)])
async def test_the_budget_is_of_all_shards_together(shards: int, share: int) -> None:
    listener = Listener("")
    await RedisLimiter(Functions(listener), shards, stream_bytes_max=705).admit(call(1), "", b"{}")
    assert listener.heard[-1] == share


async def test_running_calls_are_renewed_settled_voided_and_reaped_beyond_it(bench: Bench) -> None:
    await publish(bench)
    for number in range(1, 5):
        await bench.limiter.admit(call(number), "", b"{}")
    await fill(bench, 50)
    tight = within(bench, 1)
    assert isinstance(await refused(tight.admit(call(9), "", b"{}")), MeteringBacklog)
    again = await tight.admit(call(1), "", b"{}")
    assert again.output_tokens_max == 100
    assert await tight.renew(call(1), 1, 1) is None
    assert await tight.settle(call(1), BILL)
    await tight.void(call(2))
    bench.tick(60_000_000)
    assert await tight.reap(0, call(3).credential.key_id, call(3).id, 0)
    await publish(bench, enabled=False)
    assert await tight.renew(call(4), 1, 1) is KeyRevoked
    assert await tight.settle(call(4), BILL)
    ended = [event["id"] for event in bench.events()[-3:]]
    assert ended == [call(1).id, call(3).id, call(4).id]
    assert bench.redis.zcard(keyspace.leases(0)) == 0


async def test_who_is_nobody_or_may_not_is_told_so_first(bench: Bench) -> None:
    """Only who may make the call hears of the gateway's troubles, and no limit is told before them."""
    await bench.publish(Limits(rate_limit_per_min=1), models=("llama*",))
    await fill(bench, 1)
    tight = within(bench, 1)
    assert isinstance(await refused(tight.admit(call(1, credential=credential_of(STRANGER)), "", b"{}")), Unauthorized)
    assert (await refused(tight.admit(call(1, model="qwen3:8b"), "", b"{}"))).code == "model_not_found"
    assert (await refused(tight.admit(call(1), "no_backend", b"{}"))).code == "no_backend"
    assert isinstance(await refused(tight.admit(call(1), "", b"{}")), MeteringBacklog)
    assert (await refused(bench.limiter.admit(call(1), "", b"{}"))).code == "rate_limit_exceeded"


async def test_shadow_does_not_lift_it_and_counts_nothing(bench: Bench) -> None:
    await publish(bench, shadow=True)
    await fill(bench, 1)
    before = bench.everything()
    assert isinstance(await refused(within(bench, 1, shadow=True).admit(call(1), "", b"{}")), MeteringBacklog)
    assert bench.everything() == before


async def test_calls_come_in_again_once_the_worker_has_caught_up(bench: Bench) -> None:
    """As workers do it: read by the group, acknowledged and deleted, oldest first."""
    await publish(bench)
    await fill(bench, 400)
    budget = weight(bench) // 2
    tight = within(bench, budget)
    bench.redis.xgroup_create(USAGE, keyspace.USAGE_GROUP, id="0")
    drained = 0
    while isinstance(error := await _try(tight), MeteringBacklog):
        ((_, page),) = bench.redis.xreadgroup(keyspace.USAGE_GROUP, "w", {USAGE: ">"}, count=50)
        assert page, "the stream is empty and calls are still refused"
        bench.redis.xack(USAGE, keyspace.USAGE_GROUP, *(one for one, _ in page))
        bench.redis.xdel(USAGE, *(one for one, _ in page))
        drained += len(page)
    assert error is None
    assert 0 < drained < 400


async def _try(limiter: RedisLimiter) -> Exception | None:
    try:
        await limiter.admit(call(1), "", b"{}")
    except MeteringBacklog as error:
        return error
    return None


async def test_explaining_a_call_says_so_too(bench: Bench) -> None:
    await publish(bench)
    await fill(bench, 1)
    estimate = Estimate(prompt_max=20, prompt_expected=10, output_max=100)
    key_id = call(1).credential.key_id
    before = bench.everything()
    assert (await bench.inspector.explain(key_id, MODEL, estimate)).reason == ""
    told = await RedisInspector(bench.functions, 1, bench.failures, stream_bytes_max=1).explain(key_id, MODEL, estimate)
    assert (told.reason, told.wait_ms) == ("backlog", None)
    assert bench.everything() == before


async def test_the_longest_event_is_no_longer_than_the_function_takes_it_for(bench: Bench) -> None:
    """Else few events could be over the budget without being weighed."""
    worst = "\x01"  # six bytes of JSON
    code = max((error.code for error in every_error()), key=len)
    node = "n" * NODE_NAME_CHARS_MAX
    detail = Detail(
        model="m" * NAME_CHARS_MAX, endpoint="/" + "e" * 63, backend=node, status=code, http_status=599, streamed=True,
        finish_reason="content_filter", response_time_ms=DURATION_MS_MAX, first_token_ms=DURATION_MS_MAX,
        queue_ms=DURATION_MS_MAX, load_ms=DURATION_MS_MAX, prompt_ms=DURATION_MS_MAX, eval_ms=DURATION_MS_MAX,
        end_user=worst * END_USER_CHARS_MAX, dialect="anthropic", address_hash=hashed(SOURCE, b""),
        attempts=(Tried(node, code, DURATION_MS_MAX, DURATION_MS_MAX),) * ATTEMPTS_MAX,
    )  # fmt: skip
    await publish(bench)
    await bench.limiter.admit(call(1), "", b"{}")
    empty = bench.redis.memory_usage(USAGE) or 0
    bill = Bill(
        prompt_tokens=TOKENS_MAX, completion_tokens=TOKENS_MAX, paid=True, estimated=True, whole=True, detail=detail
    )
    await bench.limiter.settle(call(1), bill)
    ((_, entry),) = bench.redis.xrange(USAGE)
    assert decode(entry).detail == detail
    (said,) = [line for line in source().splitlines() if line.startswith("local EVENT_BYTES_MAX")]
    assert weight(bench) - empty <= int(said.split()[3])
