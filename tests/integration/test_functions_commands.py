"""What a call asks of Redis: one Redis is full when its functions have no more time, and each command takes of it."""

from typing import Any

import pytest

from gateway.core.call import Bill
from gateway.core.limits import Limits
from gateway.core.usage import Detail
from tests.fakes import Bench, call

LIMITS = Limits(rate_limit_per_min=10**6, tokens_per_min=10**6, concurrency=10**3, monthly_token_limit=10**9)
CREDITS: dict[str, Any] = {"metered": True, "granted_micro": 2**50}
BILL = Bill(prompt_tokens=10, completion_tokens=20, paid=True, estimated=False, whole=True, detail=Detail())
WRITES = ("hset", "hincrby", "hdel", "zadd", "zrem", "pexpire", "xadd")
ASKING = ("info", "config|resetstat", "fcall")
ADMIT_COMMANDS_MAX, ADMIT_WRITES_MAX = 17, 5
SETTLE_COMMANDS_MAX, SETTLE_WRITES_MAX = 16, 8
CALLS = 10


@pytest.fixture(autouse=True)
async def key(bench: Bench) -> None:
    """With every limit, and used already: what is written only once is there."""
    await bench.publish(LIMITS, **CREDITS)
    for number in (1, 2):
        await bench.limiter.admit(call(number), "", b"{}")
    await bench.limiter.settle(call(1), BILL)


async def commands_of(bench: Bench, verb: Any, *args: Any) -> dict[str, int]:
    """How often each command ran in `CALLS` calls of a function, which take turns with nobody."""
    bench.redis.config_resetstat()
    for number in range(10, 10 + CALLS):
        await verb(call(number), *args)
    stats = bench.redis.info("commandstats").items()
    return {name[8:]: figures["calls"] for name, figures in stats if name[8:] not in ASKING}


async def test_a_call_asks_no_more_of_redis_than_it_has_to(bench: Bench) -> None:
    admitted = await commands_of(bench, bench.limiter.admit, "", b"{}")
    settled = await commands_of(bench, bench.limiter.settle, BILL)
    for found, commands_max, writes_max in (
        (admitted, ADMIT_COMMANDS_MAX, ADMIT_WRITES_MAX),
        (settled, SETTLE_COMMANDS_MAX, SETTLE_WRITES_MAX),
    ):
        assert CALLS < sum(found.values()) <= CALLS * commands_max, found
        assert 0 < sum(found.get(name, 0) for name in WRITES) <= CALLS * writes_max, found


async def test_a_busy_key_does_not_say_each_time_when_it_expires(bench: Bench) -> None:
    assert "pexpire" not in await commands_of(bench, bench.limiter.admit, "", b"{}")
    settled = await commands_of(bench, bench.limiter.settle, BILL)
    assert settled["pexpire"] == CALLS, "of the leases, each of which ends once"
