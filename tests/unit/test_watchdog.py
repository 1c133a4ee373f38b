"""A loaded model that has fallen silent is unloaded once, under those it is silent to, who are asked again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from gateway.backends import watchdog as watchdog_module
from gateway.core.routing import Rates
from gateway.dialects.ollama import GenerateRequest
from gateway.errors import BackendTimeout
from tests.fake_replica import SILENT_S, Replica
from tests.fakes import MODEL, turns

SILENT_MS = int(SILENT_S * 1000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_module, "LOOK_S", 0.0)


@asynccontextmanager
async def silent(replica: Replica, calls: int = 1) -> AsyncIterator[list["asyncio.Task[object]"]]:
    """Calls wait for a first byte, and the watchdog looks."""
    replica.client.scripts["a"] += [asyncio.Event() for _ in range(calls)]
    asking = [
        asyncio.create_task(replica.ask(number, upstream=GenerateRequest(prompt=f"why {number}?")))
        for number in range(calls)
    ]
    watching = asyncio.create_task(replica.watchdog.run())
    async with replica.running():
        await turns(30)
        yield asking  # type: ignore[misc]
        for task in (*asking, watching):
            task.cancel()
        await asyncio.gather(*asking, watching, return_exceptions=True)


def unloads(replica: Replica) -> int:
    bodies = [msgspec.json.decode(request.content) for request in replica.requests]
    return sum(body == {"model": MODEL, "keep_alive": 0} for body in bodies)


async def test_a_model_that_is_silent_too_long_is_unloaded_and_the_call_asked_again() -> None:
    replica = Replica("a")
    async with silent(replica) as (asking,):
        replica.tick(SILENT_MS - 1)
        await turns(30)
        assert unloads(replica) == 0
        replica.tick(1)
        await asking
    assert (unloads(replica), replica.client.asked) == (1, ["a", "a"])
    assert replica.observer.of("recycled") == [("a", MODEL)]
    assert replica.breaker("a", MODEL).recycled is False, "it has served since"


async def test_it_is_unloaded_once_and_not_again_before_it_served() -> None:
    replica = Replica("a")
    async with silent(replica) as (asking,):
        replica.client.scripts["a"].append(asyncio.Event())
        for _ in range(3):
            replica.tick(SILENT_MS)
            await turns(50)
        assert not asking.done()
    assert unloads(replica) == 1


async def test_all_calls_it_is_silent_to_are_asked_again() -> None:
    replica = Replica("a", slots=3)
    async with silent(replica, 3) as asking:
        replica.tick(SILENT_MS)
        await asyncio.gather(*asking)
    assert (unloads(replica), len(replica.client.asked)) == (1, 6)


async def test_a_model_that_answers_another_call_is_not_silent() -> None:
    replica = Replica("a", slots=2)
    async with replica.exchange(9), silent(replica) as (asking,):
        replica.tick(SILENT_MS)
        await turns(30)
        assert not asking.done()
    assert unloads(replica) == 0


async def test_a_model_that_answers_another_replica_is_not_silent() -> None:
    replica = Replica("a", slots=2)
    await replica.placement.hold([("other", "a", MODEL, "k", False)])
    async with silent(replica) as (asking,):
        await replica.sync()
        replica.tick(SILENT_MS)
        await turns(30)
        assert not asking.done()
    assert unloads(replica) == 0


async def test_a_load_may_be_silent() -> None:
    replica = Replica("a", loaded=False)
    async with silent(replica):
        replica.tick(10 * SILENT_MS)
        await turns(30)
    assert unloads(replica) == 0


async def test_a_slow_node_may_be_silent_longer() -> None:
    replica = Replica("a")
    replica.placement.rates = {("a", MODEL): Rates(prompt_token_ms=2 * SILENT_MS / 50, calls=9)}
    await replica.sync()
    async with silent(replica) as (asking,):  # a prompt of 10 tokens
        replica.tick(2 * SILENT_MS - 1)
        await turns(30)
        assert unloads(replica) == 0
        replica.tick(1)
        await asking
    assert unloads(replica) == 1


async def test_without_redis_nothing_is_unloaded() -> None:
    replica = Replica("a")
    async with silent(replica):
        replica.placement.away = True
        replica.tick(SILENT_MS)
        await turns(30)
    assert unloads(replica) == 0


async def test_a_node_that_does_not_unload_it_is_asked_no_more_than_once() -> None:
    replica = Replica("a", "b")

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    replica.answer = refuse
    async with silent(replica) as (asking,):
        replica.tick(SILENT_MS)
        await asking
    assert unloads(replica) == 1


async def test_the_first_byte_in_time_ends_the_watch() -> None:
    replica = Replica("a", slots=2)
    async with replica.exchange():
        assert replica.watchdog._watched == {}
    with pytest.raises(BackendTimeout):
        async with replica.exchange(2):
            raise BackendTimeout
    assert replica.watchdog._watched == {}
