"""The line of commands that no connection has taken yet: bounded, in order, and without those who have left."""

import asyncio

import pytest

from gateway.errors import LimitsUnavailable
from gateway.state import unsent
from gateway.state.unsent import BATCH_COMMANDS_MAX, Unsent


def added(line: Unsent, packed: bytes = b"x", since_s: float = 0.0) -> "tuple[asyncio.Future[object], bool]":
    reply = asyncio.get_running_loop().create_future()
    return reply, line.add(packed, reply, since_s)


def refused(reply: "asyncio.Future[object]") -> bool:
    return reply.done() and isinstance(reply.exception(), LimitsUnavailable)


async def test_a_batch_is_bounded_and_has_the_oldest_who_still_wait() -> None:
    line = Unsent()
    replies = [added(line, b"%d" % number)[0] for number in range(BATCH_COMMANDS_MAX + 2)]
    replies[0].cancel()
    replies[5].cancel()
    batch = line.take()
    assert len(batch.asked) == BATCH_COMMANDS_MAX
    assert [packed for packed, _, _ in batch.asked][:6] == [b"1", b"2", b"3", b"4", b"6", b"7"]
    assert (len(line), line.take().asked) == (0, [])


@pytest.mark.parametrize("leave", ["take", "refuse_all", "refuse_until"])
async def test_there_is_room_again_for_as_many_bytes_as_have_left(monkeypatch: pytest.MonkeyPatch, leave: str) -> None:
    monkeypatch.setattr(unsent, "WAITING_BYTES_MAX", 10)
    line = Unsent()
    assert added(line, b"123456")[1]
    assert not added(line, b"12345")[1]
    assert added(line, b"1234")[1]
    line.refuse_until(0.0) if leave == "refuse_until" else getattr(line, leave)()
    assert len(line) == 0
    assert added(line, b"1234567890")[1]
    assert not added(line)[1]


async def test_there_is_room_for_so_many_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsent, "WAITING_COMMANDS_MAX", 3)
    line = Unsent()
    assert [added(line)[1] for _ in range(5)] == [True] * 3 + [False] * 2


async def test_whose_time_is_over_is_refused_and_the_first_of_the_others_is_told() -> None:
    line = Unsent()
    replies = [added(line, since_s=float(second))[0] for second in range(5)]
    replies[2].cancel()
    assert line.refuse_until(1.0) == 3.0
    assert [refused(replies[0]), refused(replies[1]), replies[3].done(), replies[4].done()] == [
        True,
        True,
        False,
        False,
    ]
    assert len(line) == 2
    assert line.refuse_until(9.0) is None
    assert all(refused(one) for one in replies[3:])
    assert len(line) == 0
