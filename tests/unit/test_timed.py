"""What Redis takes, by function or command, and Postgres; and which of their answers are failures."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import NoScriptError, ResponseError

from gateway.admin.postgres import Postgres, Refused
from gateway.errors import LimitsUnavailable, StoreUnavailable
from gateway.state.timed import TimedCalls
from gateway.telemetry.stores import StoreMetrics

ADMIT = ("FCALL", "llmgw_0123456789ab_admit", 0)


class Redis:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def call(self, *command: Any) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        if isinstance(self._answer, asyncio.Event):
            await self._answer.wait()
        return self._answer


async def told(answer: Any, *command: Any, patience_s: float = 60.0) -> tuple[str, float | None]:
    """The command's name in the metrics, and how many failed."""
    registry = CollectorRegistry()
    timed = TimedCalls(Redis(answer), StoreMetrics(registry), patience_s=patience_s)
    with suppress(ResponseError, LimitsUnavailable, TimeoutError):
        async with asyncio.timeout(0.01):
            assert await timed.call(*command) == answer
    counts = {
        sample.labels["function"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "gateway_redis_seconds_count"
    }
    ((name, count),) = counts.items()
    assert count == 1
    return name, registry.get_sample_value("gateway_redis_failures_total")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (ADMIT, "admit"),
        (("FCALL", "llmgw_0123456789ab_inspect_team", 0), "inspect_team"),
        (("GET", "{s00}:ready"), "get"),
        (("MEMORY", "USAGE", "a key"), "memory"),
    ],
)
async def test_a_command_is_told_by_its_name_alone(command: tuple[Any, ...], name: str) -> None:
    assert await told(b"1", *command) == (name, 0)


@pytest.mark.parametrize(
    ("answer", "command", "failures"),
    [
        (LimitsUnavailable(), ADMIT, 1),
        (ResponseError("OOM command not allowed"), ADMIT, 1),
        (ResponseError("NOGROUP No such key"), ("XPENDING", "x"), 0),
        (NoScriptError("no"), ADMIT, 0),
        (ResponseError("Function not found"), ADMIT, 0),
    ],
)
async def test_what_is_a_failure(answer: Exception, command: tuple[Any, ...], failures: int) -> None:
    assert (await told(answer, *command))[1] == failures


async def test_a_caller_that_gave_up_counts_once_redis_had_its_time() -> None:
    assert (await told(asyncio.Event(), *ADMIT))[1] == 0
    assert (await told(asyncio.Event(), *ADMIT, patience_s=0.0))[1] == 1


class Pool:
    """Lends no connection."""

    def __init__(self, why: Exception) -> None:
        self._why = why

    def acquire(self, timeout: float) -> Any:
        raise self._why


@pytest.mark.parametrize(
    ("why", "failures"),
    [
        (ConnectionRefusedError(), 1),
        (TimeoutError(), 1),
        (asyncpg.QueryCanceledError(), 1),
        (asyncpg.UniqueViolationError(), 0),
    ],
)
async def test_what_is_a_failure_of_postgres(why: Exception, failures: int) -> None:
    registry = CollectorRegistry()
    pool: Any = Pool(why)
    with pytest.raises((StoreUnavailable, Refused)):
        async with Postgres(pool, metrics=StoreMetrics(registry)).transaction():
            pass
    assert registry.get_sample_value("gateway_postgres_failures_total") == failures
    assert registry.get_sample_value("gateway_postgres_seconds_count") == 1
