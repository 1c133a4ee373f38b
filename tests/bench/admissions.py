"""How many calls one Redis can admit and settle: the gateway's own functions, in batches, until its core is full."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import redis.asyncio

from gateway.core.call import Bill, Call
from gateway.core.ids import ENTROPY_BYTES, uuid7
from gateway.core.keys import Peppers
from gateway.core.tally import if_lost
from gateway.core.usage import Detail, detail_json
from gateway.state.functions import Functions
from gateway.state.limiter import RedisLimiter
from tests.bench import processor
from tests.bench.finding import Finding
from tests.bench.gateway import PEPPER
from tests.bench.scenario import QUICK_MODEL, REDIS
from tests.bench.system import System
from tests.fakes import call

CALLS = 10_000
AT_ONCE = 500
BILL = Bill(
    prompt_tokens=12,
    completion_tokens=34,
    paid=True,
    estimated=False,
    whole=True,
    detail=Detail(model=QUICK_MODEL, endpoint="/v1/chat/completions", backend="node", response_time_ms=12),
)


class Batches:
    """Keeps `gateway.state.functions.Calls`: what is asked in one turn of the loop goes in one pipeline."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []

    def call(self, *command: Any) -> "asyncio.Future[Any]":
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        return answer

    async def flush(self) -> None:
        """Send what waits, and what those who are answered ask next, until nobody asks any more."""
        await asyncio.sleep(0)
        while self._waiting:
            batch, self._waiting = self._waiting, []
            pipeline = self._client.pipeline(transaction=False)
            for command, _ in batch:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
            for (_, answer), reply in zip(batch, replies, strict=True):
                if isinstance(reply, Exception):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
            await asyncio.sleep(0)
            await asyncio.sleep(0)


class Admissions:
    def __init__(self, system: System) -> None:
        self._system = system

    async def measure(self) -> list[Finding]:
        """Its calls end as rows like any others."""
        admit_ns = settle_ns = 0
        async with redis.asyncio.Redis.from_url(self._system.valkey.tcp_url) as client:
            batches = Batches(client)
            limiter = RedisLimiter(Functions(batches), 1)
            for number in range(CALLS // AT_ONCE):
                calls = self._calls(number * AT_ONCE)
                admit_ns += await self._cpu_ns(
                    batches, [limiter.admit(one, "", detail_json(if_lost(one))) for one in calls]
                )
                settle_ns += await self._cpu_ns(batches, [limiter.settle(one, BILL) for one in calls])
        self._system.settled_elsewhere(CALLS)
        admit_us, settle_us = admit_ns / 1e3 / CALLS, settle_ns / 1e3 / CALLS
        return [
            Finding(REDIS, REDIS, "CPU us to admit a call", admit_us),
            Finding(REDIS, REDIS, "CPU us to settle a call", settle_us),
            Finding(REDIS, REDIS, "calls a second that fill its core with these two", 1e6 / (admit_us + settle_us)),
        ]

    async def _cpu_ns(self, batches: Batches, asking: list[Coroutine[Any, Any, Any]]) -> int:
        """What Redis uses to answer all of these."""
        pids = self._system.pids(REDIS)
        before_ns = processor.cpu_ns(pids)
        tasks = [asyncio.create_task(one) for one in asking]
        await batches.flush()
        await asyncio.gather(*tasks)
        return processor.cpu_ns(pids) - before_ns

    def _calls(self, first: int) -> list[Call]:
        credential = Peppers(PEPPER).credential(self._system.key)
        assert credential
        now_ms = time.time_ns() // 10**6
        ids = (uuid7(now_ms, number.to_bytes(ENTROPY_BYTES, "big")) for number in range(first, first + AT_ONCE))
        return [call(credential=credential, model=QUICK_MODEL, id=one) for one in ids]
