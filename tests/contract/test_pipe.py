"""The pipe to Redis: every caller its own reply, within its own deadline, whatever Redis and other callers do.

Ours keeps the same promises as one made of redis-py's pipelines.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from gateway.dev.valkey import EmbeddedValkey
from gateway.errors import LimitsUnavailable
from gateway.state import unsent
from gateway.state.pipe import Pipe
from gateway.state.unsent import BATCH_COMMANDS_MAX
from tests import redis_pipe
from tests.redis_pipe import RedisPyPipe

TIMEOUT_MS = 250
ENOUGH_MS = 350  # the deadline, and what a busy machine adds
CALLS = 4_000
BACK_WITHIN_S = 10.0
HUGE_BYTES = 5_000_000

MADE = (
    ("HSET", "hash", "a", 1, "b", 2.5),
    ("XADD", "stream", "1-1", "a", "b"),
    ("XGROUP", "CREATE", "stream", "group", "0"),
    ("XREADGROUP", "GROUP", "group", "me", "STREAMS", "stream", ">"),
    ("ZADD", "sorted", 1, "x", 2, "y"),
)
SHAPES: dict[tuple[object, ...], object] = {
    ("SET", "key", b"value", "NX", "PX", 60_000): True,
    ("SET", "key", "other", "NX"): None,
    ("GET", "key"): b"value",
    ("GET", "none"): None,
    ("EXISTS", "key"): 1,
    ("PERSIST", "key"): True,
    ("HGETALL", "hash"): {b"a": b"1", b"b": b"2.5"},
    ("HMGET", "hash", "a", "none"): [b"1", None],
    ("XLEN", "stream"): 1,
    ("XRANGE", "stream", "-", "+", "COUNT", 5): [(b"1-1", {b"a": b"b"})],
    ("XREVRANGE", "stream", "+", "-", "COUNT", 5): [(b"1-1", {b"a": b"b"})],
    ("ZRANGE", "sorted", "-inf", 1.5, "BYSCORE", "LIMIT", 0, 9): [b"x"],
    ("FUNCTION", "LIST", "LIBRARYNAME", "none*"): [],
    ("RENAME", "key", "renamed"): True,
}
"""of what we ask Redis ourselves"""


AnyPipe = Pipe | RedisPyPipe
Make = Callable[[str, int], AnyPipe]


@pytest.fixture(params=["ours", "redis-py's"])
def make(request: pytest.FixtureRequest) -> Make:
    return Pipe if request.param == "ours" else RedisPyPipe


@pytest.fixture
async def pipe(make: Make, redis_url: str) -> AsyncIterator[AnyPipe]:
    one = make(redis_url, 5_000)
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
async def own(make: Make, valkey: EmbeddedValkey) -> AsyncIterator[AnyPipe]:
    """A pipe to that server, with the deadline that replicas have."""
    one = make(valkey.url, TIMEOUT_MS)
    one.start()
    yield one
    await one.close()


async def timed(pipe: AnyPipe, *command: object) -> float:
    """Milliseconds until the call has failed, as it must."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(LimitsUnavailable):
        await pipe.call(*command)
    return (asyncio.get_running_loop().time() - began) * 1_000


async def works_again(pipe: AnyPipe) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            try:
                assert await pipe.call("ECHO", "back") == b"back"
                return
            except LimitsUnavailable:
                await asyncio.sleep(0)


async def test_a_caller_gets_its_own_reply_however_many_others_leave(pipe: AnyPipe, seed: str) -> None:
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


async def test_more_calls_of_one_turn_than_a_batch_has_are_answered_in_order(pipe: AnyPipe) -> None:
    replies = await asyncio.gather(*(pipe.call("RPUSH", "x", number) for number in range(2 * BATCH_COMMANDS_MAX + 1)))
    assert replies == list(range(1, 2 * BATCH_COMMANDS_MAX + 2))


async def test_a_command_whose_caller_left_before_it_was_sent_is_not_sent(pipe: AnyPipe) -> None:
    leaving = asyncio.ensure_future(pipe.call("SET", "left", "1"))
    await asyncio.sleep(0)  # it waits in line now; the line is emptied in the next turn at the earliest
    leaving.cancel()
    assert await pipe.call("EXISTS", "left") == 0


async def test_one_commands_error_is_its_callers_alone(pipe: AnyPipe) -> None:
    bad, good = await asyncio.gather(pipe.call("NOSUCH"), pipe.call("ECHO", "a"), return_exceptions=True)
    assert isinstance(bad, ResponseError)
    assert good == b"a"


async def test_a_hung_redis_holds_nobody_up_and_is_used_again_when_it_goes_on(
    valkey: EmbeddedValkey, own: AnyPipe
) -> None:
    await own.call("SET", "x", "1")
    os.kill(valkey.pid, signal.SIGSTOP)
    waits = await asyncio.gather(*(timed(own, "INCR", "x") for _ in range(200)))
    waits += [await timed(own, "GET", "x") for _ in range(4)]
    os.kill(valkey.pid, signal.SIGCONT)
    assert max(waits) < ENOUGH_MS
    await works_again(own)
    assert await own.call("ECHO", "mine") == b"mine"


async def test_a_reply_that_comes_too_late_reaches_nobody(valkey: EmbeddedValkey, own: AnyPipe) -> None:
    await own.call("ECHO", "warm")
    os.kill(valkey.pid, signal.SIGSTOP)
    await asyncio.gather(*(timed(own, "ECHO", f"late {number}") for number in range(50)))
    os.kill(valkey.pid, signal.SIGCONT)
    await works_again(own)
    values = [f"new {number}".encode() for number in range(200)]
    assert await asyncio.gather(*(own.call("ECHO", value) for value in values)) == values


async def test_a_killed_redis_fails_calls_at_once_and_is_used_again_when_it_is_back(
    valkey: EmbeddedValkey, own: AnyPipe
) -> None:
    await own.call("SET", "x", "1")
    await valkey.kill()
    waits = [await timed(own, "GET", "x") for _ in range(20)]
    assert max(waits) < ENOUGH_MS
    await valkey.start()
    await works_again(own)


async def test_a_connection_that_was_closed_while_idle_costs_no_call(
    valkey: EmbeddedValkey, make: Make, own: AnyPipe
) -> None:
    for _ in range(5):
        assert await own.call("ECHO", "a") == b"a"
        other = make(valkey.url, TIMEOUT_MS)
        other.start()
        await other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await other.close()


async def test_the_line_is_bounded_and_forgets_those_who_gave_up(
    valkey: EmbeddedValkey, own: AnyPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (unsent, redis_pipe):
        monkeypatch.setattr(module, "WAITING_COMMANDS_MAX", 30)
        monkeypatch.setattr(module, "BATCH_COMMANDS_MAX", 10)
    await own.call("ECHO", "warm")
    os.kill(valkey.pid, signal.SIGSTOP)
    waits = await asyncio.gather(*(timed(own, "INCR", "x") for _ in range(200)))
    os.kill(valkey.pid, signal.SIGCONT)
    assert sum(wait < TIMEOUT_MS / 2 for wait in waits) == 170, "who finds the line full is told so at once"
    assert max(waits) < ENOUGH_MS
    await works_again(own)
    assert len(own._unsent if isinstance(own, Pipe) else own._waiting) == 0


async def test_an_address_where_nobody_listens_is_no_verdict(make: Make, tmp_path: Path) -> None:
    async with asyncio.timeout(5):
        for url in (f"unix://{tmp_path}/none", "redis://127.0.0.1:1"):
            nowhere = make(url, TIMEOUT_MS)
            nowhere.start()
            assert await timed(nowhere, "ECHO", "a") < ENOUGH_MS
            await nowhere.close()


async def test_a_closed_pipe_leaves_nobody_waiting_for_ever(valkey: EmbeddedValkey, make: Make) -> None:
    pipe = make(valkey.url, TIMEOUT_MS)
    pipe.start()
    os.kill(valkey.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(timed(pipe, "ECHO", "a"))
    await asyncio.sleep(0)
    await pipe.close()
    assert await waiting < ENOUGH_MS


async def test_a_command_that_cannot_be_sent_is_its_callers_alone(pipe: AnyPipe) -> None:
    await pipe.call("ECHO", "warm")
    for value in (None, True, [], "\ud800"):
        with pytest.raises(LimitsUnavailable):
            await pipe.call("ECHO", value)
    assert await pipe.call("ECHO", "after") == b"after"


async def test_a_command_of_megabytes_goes_and_comes_back(pipe: AnyPipe, seed: str) -> None:
    value = random.Random(seed).randbytes(HUGE_BYTES)
    big, small = await asyncio.gather(pipe.call("ECHO", value), pipe.call("ECHO", "beside it"))
    assert big == value
    assert small == b"beside it"


async def test_replies_have_the_shapes_that_redis_py_gives_them(pipe: AnyPipe) -> None:
    for command in MADE:
        await pipe.call(*command)
    for command, reply in SHAPES.items():
        assert await pipe.call(*command) == reply, command
    assert str((await pipe.call("INFO", "server"))["run_id"]).isalnum()
    pending = await pipe.call("XPENDING", "stream", "group")
    assert (pending["pending"], pending["consumers"]) == (1, [{"name": b"me", "pending": 1}])
    assert await pipe.call("MEMORY", "USAGE", "hash") > 0
    assert all(isinstance(part, int) for part in await pipe.call("TIME"))
