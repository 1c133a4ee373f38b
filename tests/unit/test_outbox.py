"""The way from a call to its client: bytes in order, one end, and a stop that is called once."""

import asyncio

import pytest

from gateway import outbox
from gateway.core.call import Queued
from gateway.dialects.asked import Renderer
from gateway.errors import CallAbandoned, Draining
from gateway.outbox import Notes, Outbox
from tests.fakes import turns


async def taken(out: Outbox) -> list[bytes]:
    """All that a client takes until the end."""
    pieces = []
    while (piece := await out.take()) is not None:
        pieces.append(piece)
    return pieces


async def test_what_waits_leaves_together_and_in_order() -> None:
    out = Outbox()
    for piece in (b"a", b"", b"b"):
        out.put(piece)
    assert await out.take() == b"ab"
    out.put(b"c")
    out.end()
    assert await taken(out) == [b"c"]
    assert await out.take() is None


async def test_a_client_that_waits_gets_what_comes() -> None:
    out = Outbox()
    client = asyncio.create_task(taken(out))
    for piece in (b"a", b"b"):
        await turns(3)
        out.put(piece)
    await turns(3)
    out.end()
    assert await client == [b"a", b"b"]


def test_only_bytes_begin_an_answer() -> None:
    out = Outbox()
    out.put(b"")
    assert not out.begun
    out.put(b"a")
    assert out.begun


async def test_a_refusal_is_the_end() -> None:
    out, error = Outbox(), Draining()
    out.refuse(error)
    assert await out.take() is None
    assert out.refusal is error


async def test_a_client_that_leaves_ends_the_wait_and_the_making() -> None:
    out, stops = Outbox(), []
    out.stops_with(lambda: stops.append(1))
    client = asyncio.create_task(taken(out))
    await turns(3)
    out.leave()
    assert await client == []
    out.put(b"late")
    assert (await out.take(), out.gone, stops) == (None, True, [1])


@pytest.mark.parametrize("before", [True, False])
def test_the_stop_is_called_once_even_when_it_was_asked_for_before_it_was_known(before: bool) -> None:
    out, stops = Outbox(), []
    if before:
        out.leave()
    out.stops_with(lambda: stops.append(1))
    for again in (lambda: out.cut(Draining()), out.leave, lambda: out.cut(Draining())):
        again()
    assert stops == [1]
    assert type(out.reason) is (CallAbandoned if before else Draining), "the first reason counts"


async def test_a_cut_call_may_still_tell_its_client_why() -> None:
    out = Outbox()
    out.cut(Draining())
    out.put(b"why")
    out.end()
    assert (await taken(out), out.gone) == ([b"why"], False)


async def test_a_client_too_far_behind_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WAITING_BYTES_MAX", 10)
    out, stops = Outbox(), []
    out.stops_with(lambda: stops.append(1))
    out.put(b"x" * 10)
    assert not out.gone
    out.put(b"x")
    assert (out.gone, stops) == (True, [1])


async def test_a_client_that_keeps_up_may_take_any_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WAITING_BYTES_MAX", 10)
    out = Outbox()
    for _ in range(50):
        out.put(b"x" * 10)
        assert await out.take() == b"x" * 10
    assert not out.gone


class Waiting:
    """A call in the line, and a clock that the test moves."""

    def __init__(self, beat: bytes = Renderer.beat) -> None:
        self.out, self.now_ms = Outbox(), 5
        renderer = type("Written", (Renderer,), {"beat": beat})()
        self._notes = Notes(self.out, renderer.queued, lambda: self.now_ms)

    def told(self, after_ms: int, position: int, about_s: float = 1.0) -> bytes:
        """What that lets a client know."""
        self.now_ms += after_ms
        self._notes.queued(Queued(position, about_s))
        said = bytes(self.out._waiting)
        self.out._waiting.clear()
        return said


def test_a_place_is_told_after_a_second_when_it_changes_and_once_a_second_at_most() -> None:
    call = Waiting()
    assert call.told(0, 4) == call.told(600, 3) == b"", "a refusal might still be told with a status of its own"
    assert not call.out.begun
    assert call.told(400, 3, 7.2) == b": queue position 3, about 8 s\n\n"
    assert call.told(500, 2, 7.2) == b"", "that is too soon"
    assert call.told(500, 2, 7.2) == b": queue position 2, about 8 s\n\n"
    assert call.told(5_000, 2, 7.2) == b"", "that is known"
    assert call.told(1_000, 1, 0.0) == b": queue position 1, about 1 s\n\n"
    assert call.out.place == Queued(4, 1.0), "the first is what the header says"


def test_a_stream_that_has_no_place_for_it_says_nothing() -> None:
    call = Waiting(beat=b"")
    assert [call.told(1_000, 1) for _ in range(3)] == [b""] * 3
    assert not call.out.begun and call.out.place
