"""One connection to Redis: whatever becomes of replies, nobody gets another one's."""

import asyncio
import random
from typing import Any

import pytest
from hiredis import pack_command
from redis.exceptions import (
    AskError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from gateway.errors import LimitsUnavailable
from gateway.state.wire import FLIGHTS_MAX, UNSENT_BYTES_MAX, Batch, Wire
from tests.proxies import replies_in
from tests.scripted_redis import commands_in

REPLIES = [
    b"+OK\r\n",
    b":-12\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$6\r\na\r\nb\r\n\r\n",
    b"*2\r\n*2\r\n$0\r\n\r\n:7\r\n+x\r\n",
]
SAID: list[Any] = [b"OK", -12, None, None, b"a\r\nb\r\n", [[b"", 7], b"x"]]
ROUNDS = 300


class Line:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False
        self.high = 0

    def set_write_buffer_limits(self, *, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


class Scene:
    """A wire, and what its owner was told."""

    def __init__(self) -> None:
        self.line = Line()
        self.rooms = 0
        self.ends: list[list[Batch]] = []
        self.wire = Wire(self._room, lambda wire, batches: self.ends.append(batches))
        self.wire.connection_made(self.line)

    def _room(self) -> None:
        self.rooms += 1

    def ask(self, *values: bytes, again: bool = False) -> "list[asyncio.Future[Any]]":
        """A batch of ECHOs."""
        loop = asyncio.get_running_loop()
        asked = [(pack_command((b"ECHO", value)), loop.create_future(), loop.time()) for value in values]
        self.wire.send(Batch(asked, again=again))
        return [reply for _, reply, _ in asked]

    def answers(self) -> list[bytes]:
        """What a Redis would reply to all that was written, each by itself."""
        return [b"$%d\r\n%b\r\n" % (len(what), what) for _, what in commands_in(b"".join(self.line.written))]


@pytest.fixture
async def scene() -> Scene:
    return Scene()


def failed(replies: "list[asyncio.Future[Any]]") -> bool:
    return all(isinstance(reply.exception(), LimitsUnavailable) for reply in replies)


async def test_replies_are_the_same_however_they_arrive(scene: Scene) -> None:
    whole = b"".join(REPLIES)
    for cut in range(len(whole) + 1):
        replies = scene.ask(*[b"x"] * len(REPLIES))
        scene.wire.data_received(whole[:cut])
        scene.wire.data_received(whole[cut:])
        assert [await reply for reply in replies] == SAID
    replies = scene.ask(*[b"x"] * len(REPLIES))
    for at in range(len(whole)):
        scene.wire.data_received(whole[at : at + 1])
    assert [await reply for reply in replies] == SAID
    assert not scene.ends


async def test_batches_on_the_way_at_once_are_told_apart(scene: Scene) -> None:
    first, second = scene.ask(b"a", b"b"), scene.ask(b"c")
    assert scene.line.written[0].count(b"PING") == 0, "an idle connection is in step"
    assert scene.line.written[1].count(b"PING") == 1
    scene.wire.data_received(b"$1\r\na\r\n$1\r\nb\r\n")
    assert not any(reply.done() for reply in first), "until the mark behind it has come"
    scene.wire.data_received(b"".join(scene.answers()[2:]))
    assert [await reply for reply in first + second] == [b"a", b"b", b"c"]
    assert not scene.wire.flights


async def test_whichever_replies_are_lost_nobody_gets_another_ones(seed: str) -> None:
    chance = random.Random(seed)
    right = lost = 0
    for _ in range(ROUNDS):
        scene = Scene()
        asked: dict[bytes, asyncio.Future[Any]] = {}
        for batch in range(chance.randint(1, FLIGHTS_MAX)):
            values = [b"%d-%d" % (batch, one) for one in range(chance.randint(1, 4))]
            asked |= zip(values, scene.ask(*values), strict=True)
        answers = scene.answers()
        for _ in range(min(len(answers), chance.randint(1, 3))):
            answers.pop(chance.randrange(len(answers)))
            lost += 1
        scene.wire.data_received(b"".join(answers))
        scene.wire.cut()  # as when no more comes
        assert len(scene.ends) == 1
        for value, reply in asked.items():
            if not failed([reply]):
                assert await reply == value
                right += 1
    assert lost > ROUNDS
    assert right > 0


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n", b"\x00\x01", b"$-5\r\n", b":12a\r\n", b"$1\r\nab"])
async def test_what_is_no_reply_ends_the_connection(scene: Scene, junk: bytes) -> None:
    replies = scene.ask(b"a", b"b") + scene.ask(b"c")
    scene.wire.data_received(b"$1\r\na\r\n" + junk + b"x" * 20)
    assert failed(replies)
    assert scene.line.aborted
    assert scene.ends == [[]], "what is out of step is not asked again: Redis may have done it"


async def test_a_word_that_nobody_asked_for_ends_the_connection(scene: Scene) -> None:
    (reply,) = scene.ask(b"a")
    scene.wire.data_received(b"$1\r\na\r\n$1\r\nb\r\n")
    assert await reply == b"a"
    assert scene.line.aborted
    assert scene.ends == [[]]


async def test_what_was_on_the_way_when_the_other_side_closed_may_go_once_more(scene: Scene) -> None:
    first, second, third = scene.ask(b"a", b"b", b"c"), scene.ask(b"d"), scene.ask(b"e", again=True)
    scene.wire.data_received(scene.answers()[0])
    first[1].cancel()
    scene.wire.connection_lost(None)
    (batches,) = scene.ends
    assert [[reply for _, reply, _ in batch.asked] for batch in batches] == [[first[0], first[2]], second]
    assert all(batch.again for batch in batches)
    assert failed(third), "it has gone twice already"
    scene.wire.connection_lost(ConnectionResetError())
    scene.wire.data_received(b"$1\r\nz\r\n")
    assert len(scene.ends) == 1


async def test_a_connection_that_is_cut_fails_what_is_on_the_way_and_nothing_goes_again(scene: Scene) -> None:
    replies = scene.ask(b"a") + scene.ask(b"b")
    scene.wire.cut()
    assert failed(replies)
    assert scene.ends == [[]]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"NOSCRIPT No matching script", NoScriptError),
        (b"MOVED 3999 127.0.0.1:6381", MovedError),
        (b"ASK 3999 127.0.0.1:6381", AskError),
        (b"NOPERM User gateway has no permissions", NoPermissionError),
        (b"READONLY You can't write against a read only replica.", ReadOnlyError),
        (b"ERR Function not found", ResponseError),
        (b"WHATEVER it is", ResponseError),
    ],
)
async def test_an_objection_is_what_redis_py_makes_of_it_and_its_callers_alone(
    scene: Scene, said: bytes, kind: type[Exception]
) -> None:
    bad, good = scene.ask(b"a", b"b")
    scene.wire.data_received(b"-%b\r\n$1\r\nb\r\n" % said)
    assert type(bad.exception()) is kind
    assert await good == b"b"
    assert not scene.ends


@pytest.mark.parametrize("said", [b"LOADING Redis is loading its data", b"NOAUTH Authentication required."])
async def test_a_redis_that_does_not_serve_us_is_asked_by_a_new_connection(scene: Scene, said: bytes) -> None:
    first, second = scene.ask(b"a"), scene.ask(b"b")
    scene.wire.data_received(b"-%b\r\n" % said + scene.answers()[1])
    assert failed(first)
    ((batch,),) = scene.ends
    assert [reply for _, reply, _ in batch.asked] == second


async def test_callers_that_left_get_nothing_and_keep_nobody_from_theirs(scene: Scene) -> None:
    replies = scene.ask(b"a", b"b", b"c", b"d")
    replies[0].cancel()
    replies[2].cancel()
    scene.wire.data_received(b"-ERR no\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n")
    assert [await replies[1], await replies[3]] == [b"b", b"d"]


async def test_room_is_bounded_by_batches_on_the_way_and_by_what_nobody_takes(scene: Scene) -> None:
    assert scene.line.high == UNSENT_BYTES_MAX
    scene.wire.pause_writing()
    assert not scene.wire.has_room
    scene.wire.resume_writing()
    assert (scene.wire.has_room, scene.rooms) == (True, 1)
    for number in range(FLIGHTS_MAX):
        assert scene.wire.has_room
        scene.ask(b"%d" % number)
    assert not scene.wire.has_room
    whole = b"".join(scene.answers())
    assert len(replies_in(whole)[0]) == 2 * FLIGHTS_MAX - 1
    scene.wire.data_received(whole)
    assert (scene.wire.has_room, scene.rooms) == (True, 2)


async def test_silence_is_counted_from_the_last_word_and_only_while_something_is_owed(scene: Scene) -> None:
    assert scene.wire.silent_since_s is None
    began_s = asyncio.get_running_loop().time()
    scene.ask(b"a", b"b")
    asked_s = scene.wire.silent_since_s
    assert asked_s is not None
    assert asked_s >= began_s
    scene.wire.data_received(b"$1\r\na\r\n")
    assert scene.wire.silent_since_s is not None
    assert scene.wire.silent_since_s >= asked_s
    scene.wire.data_received(b"$1\r\nb\r\n")
    assert scene.wire.silent_since_s is None
