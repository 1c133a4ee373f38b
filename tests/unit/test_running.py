"""Calls are owned until they have settled, whoever started them."""

import asyncio
from typing import Any

from gateway.errors import Draining, GatewayError
from gateway.outbox import Outbox
from gateway.running import Running
from tests.fakes import turns


async def until(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_call_outlives_the_connection_that_started_it() -> None:
    running, settled = Running(), asyncio.Event()

    async def connection() -> None:
        running.start(until(settled), Outbox())
        await asyncio.Event().wait()

    task = asyncio.create_task(connection())
    await turns(3)
    task.cancel()
    await turns(3)
    assert len(running) == 1
    settled.set()
    assert await running.drain(5) == 0


async def test_draining_waits_for_every_call_but_not_for_ever() -> None:
    running, one, other = Running(), asyncio.Event(), asyncio.Event()
    for event in (one, other):
        running.start(until(event), Outbox())
    one.set()
    assert await running.drain(0.01) == 1
    other.set()
    assert await running.drain(5) == 0
    assert await running.drain(0) == 0


async def test_cutting_stops_every_call_once() -> None:
    running, done, stops = Running(), asyncio.Event(), []
    for name in "ab":
        out = Outbox()
        out.stops_with(lambda name=name: stops.append(name))
        running.start(until(done), out)
    running.cut()
    running.cut()
    assert stops == ["a", "b"]
    assert [type(out.reason) for out in running._calls.values()] == [Draining, Draining]
    done.set()
    await running.drain(5)


async def test_a_call_that_fails_as_nobody_planned_is_told_and_frees_its_client() -> None:
    running, out, told = Running(), Outbox(), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))

    async def broken() -> None:
        raise ZeroDivisionError

    running.start(broken(), out)
    assert await out.take() is None
    assert ([type(error) for error in told], len(running)) == ([ZeroDivisionError], 0)
    assert type(out.refusal) is GatewayError


async def test_an_answer_that_breaks_off_as_nobody_planned_is_no_good_end() -> None:
    """Its client is cut off: a stream that just ended would look whole."""
    running, out = Running(), Outbox()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    async def broken() -> None:
        out.put(b"half of it")
        raise ZeroDivisionError

    running.start(broken(), out)
    assert await out.take() == b"half of it"
    assert await out.take() is None
    assert out.gone
    assert out.refusal is None


async def test_a_cancelled_call_frees_its_client_and_is_no_failure() -> None:
    running, out, told = Running(), Outbox(), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    running.start(until(asyncio.Event()), out)
    (task,) = running._calls
    task.cancel()
    assert await out.take() is None
    assert told == []


async def test_an_ended_call_is_forgotten() -> None:
    running = Running()
    out: Any = Outbox()

    async def nothing() -> None:
        pass

    running.start(nothing(), out)
    assert len(running) == 1
    await turns(3)
    assert len(running) == 0
