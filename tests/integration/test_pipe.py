"""The pipe to Redis: every caller its own reply, within its own deadline, whatever Redis and other callers do."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from gateway.dev.valkey import EmbeddedValkey
from gateway.errors import LimitsUnavailable
from gateway.state import client
from gateway.state.client import BATCH_COMMANDS_MAX, Pipe, connect

TIMEOUT_MS = 250
ENOUGH_MS = 350  # the deadline, and what a busy machine adds
CALLS = 4_000
BACK_WITHIN_S = 10.0


@pytest.fixture
async def pipe(redis_url: str) -> AsyncIterator[Pipe]:
    one = Pipe(connect(redis_url, 5_000), 5_000)
    one.start()
    yield one
    await one.close()


@pytest.fixture
async def valkey(short_dir: Path) -> AsyncIterator[EmbeddedValkey]:
    """A server that a test may stop and kill."""
    server = EmbeddedValkey(short_dir)
    await server.start()
    yield server
    if server.child and server.child.running:
        os.kill(server.pid, signal.SIGCONT)
        await server.stop()


@pytest.fixture
async def own(valkey: EmbeddedValkey) -> AsyncIterator[Pipe]:
    """A pipe to that server, with the deadline that replicas have."""
    one = Pipe(connect(valkey.url, TIMEOUT_MS), TIMEOUT_MS)
    one.start()
    yield one
    await one.close()


async def timed(pipe: Pipe, *command: object) -> float:
    """Milliseconds until the call has failed, as it must."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(LimitsUnavailable):
        await pipe.call(*command)
    return (asyncio.get_running_loop().time() - began) * 1_000


async def works_again(pipe: Pipe) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            try:
                assert await pipe.call("ECHO", "back") == b"back"
                return
            except LimitsUnavailable:
                await asyncio.sleep(0)


async def test_a_caller_gets_its_own_reply_however_many_others_leave(pipe: Pipe, seed: str) -> None:
    chance = random.Random(seed)

    async def one(number: int) -> None:
        value = f"{number}-{chance.random()}".encode()
        assert await pipe.call("ECHO", value) == value

    calls = []
    for number in range(CALLS):
        calls.append(asyncio.create_task(one(number)))
        if chance.random() < 0.1:
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(calls).cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    left = sum(isinstance(error, asyncio.CancelledError) for error in ended)
    assert [error for error in ended if error and not isinstance(error, asyncio.CancelledError)] == []
    assert 0 < left < CALLS
    assert await pipe.call("ECHO", "after") == b"after"


async def test_calls_of_one_turn_leave_in_bounded_batches_and_in_order(pipe: Pipe) -> None:
    sizes: list[int] = []
    execute = pipe._execute

    async def counting(commands: list[client.Command]) -> list[object]:
        sizes.append(len(commands))
        return await execute(commands)

    pipe._execute = counting  # type: ignore[method-assign]
    replies = await asyncio.gather(*(pipe.call("RPUSH", "x", number) for number in range(2 * BATCH_COMMANDS_MAX + 1)))
    assert replies == list(range(1, 2 * BATCH_COMMANDS_MAX + 2))
    assert sizes == [BATCH_COMMANDS_MAX, BATCH_COMMANDS_MAX, 1]


async def test_a_command_whose_caller_left_before_it_was_sent_is_not_sent(pipe: Pipe) -> None:
    leaving = asyncio.create_task(pipe.call("SET", "left", "1"))
    await asyncio.sleep(0)  # it waits in line now; the line is emptied in the next turn at the earliest
    leaving.cancel()
    assert await pipe.call("EXISTS", "left") == 0


async def test_one_commands_error_is_its_callers_alone(pipe: Pipe) -> None:
    bad, good = await asyncio.gather(pipe.call("NOSUCH"), pipe.call("ECHO", "a"), return_exceptions=True)
    assert isinstance(bad, ResponseError)
    assert good == b"a"


async def test_a_hung_redis_holds_nobody_up_and_is_used_again_when_it_goes_on(
    valkey: EmbeddedValkey, own: Pipe
) -> None:
    await own.call("SET", "x", "1")
    os.kill(valkey.pid, signal.SIGSTOP)
    waits = await asyncio.gather(*(timed(own, "INCR", "x") for _ in range(200)))
    waits += [await timed(own, "GET", "x") for _ in range(4)]
    os.kill(valkey.pid, signal.SIGCONT)
    assert max(waits) < ENOUGH_MS
    await works_again(own)
    assert await own.call("ECHO", "mine") == b"mine"


async def test_a_reply_that_comes_too_late_reaches_nobody(valkey: EmbeddedValkey, own: Pipe) -> None:
    await own.call("ECHO", "warm")
    os.kill(valkey.pid, signal.SIGSTOP)
    await asyncio.gather(*(timed(own, "ECHO", f"late {number}") for number in range(50)))
    os.kill(valkey.pid, signal.SIGCONT)
    await works_again(own)
    values = [f"new {number}".encode() for number in range(200)]
    assert await asyncio.gather(*(own.call("ECHO", value) for value in values)) == values


async def test_a_killed_redis_fails_calls_at_once_and_is_used_again_when_it_is_back(
    valkey: EmbeddedValkey, own: Pipe
) -> None:
    await own.call("SET", "x", "1")
    await valkey.kill()
    waits = [await timed(own, "GET", "x") for _ in range(20)]
    assert max(waits) < ENOUGH_MS
    await valkey.start()
    await works_again(own)


async def test_a_connection_that_was_closed_while_idle_costs_no_call(valkey: EmbeddedValkey, own: Pipe) -> None:
    for _ in range(5):
        assert await own.call("ECHO", "a") == b"a"
        other = Pipe(connect(valkey.url, TIMEOUT_MS), TIMEOUT_MS)
        other.start()
        await other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await other.close()


async def test_the_line_is_bounded_and_forgets_those_who_gave_up(
    valkey: EmbeddedValkey, own: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WAITING_COMMANDS_MAX", 30)
    monkeypatch.setattr(client, "BATCH_COMMANDS_MAX", 10)
    await own.call("ECHO", "warm")
    os.kill(valkey.pid, signal.SIGSTOP)
    waits = await asyncio.gather(*(timed(own, "INCR", "x") for _ in range(200)))
    os.kill(valkey.pid, signal.SIGCONT)
    assert sum(wait < TIMEOUT_MS / 2 for wait in waits) == 170, "who finds the line full is told so at once"
    assert max(waits) < ENOUGH_MS
    await works_again(own)
    assert len(own._waiting) == 0


async def test_an_address_where_nobody_listens_is_no_verdict(tmp_path: Path) -> None:
    async with asyncio.timeout(5):
        for url in (f"unix://{tmp_path}/none", "redis://127.0.0.1:1"):
            nowhere = Pipe(connect(url, TIMEOUT_MS), TIMEOUT_MS)
            nowhere.start()
            assert await timed(nowhere, "ECHO", "a") < ENOUGH_MS
            await nowhere.close()


async def test_a_closed_pipe_leaves_nobody_waiting_for_ever(valkey: EmbeddedValkey) -> None:
    pipe = Pipe(connect(valkey.url, TIMEOUT_MS), TIMEOUT_MS)
    pipe.start()
    os.kill(valkey.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(timed(pipe, "ECHO", "a"))
    await asyncio.sleep(0)
    await pipe.close()
    assert await waiting < ENOUGH_MS
