"""Signs of life while nothing comes, none while something does, and an end for a client that takes nothing."""

import asyncio

import pytest

from gateway.core.call import Admission, Levels
from gateway.outbox import Outbox
from gateway.web import vigil as module
from gateway.web.vigil import Vigil

BEAT = b": beat\n\n"
BEAT_S = 0.005


def outbox(*, admitted: bool = True) -> Outbox:
    out = Outbox()
    out.admission = Admission(0, 1, Levels()) if admitted else None
    return out


async def test_a_client_that_waits_gets_signs_of_life_again_and_again() -> None:
    out = outbox()
    with Vigil(out, BEAT, BEAT_S) as vigil:
        vigil.waits()
        assert [await out.take() for _ in range(3)] == [BEAT] * 3
    assert not vigil.stalled


async def test_before_admission_there_is_none() -> None:
    out = outbox(admitted=False)
    with Vigil(out, BEAT, BEAT_S), pytest.raises(TimeoutError):
        async with asyncio.timeout(10 * BEAT_S):
            await out.take()
    assert not out.begun


async def test_where_none_can_be_said_none_is() -> None:
    out = outbox()
    with Vigil(out, b"", BEAT_S), pytest.raises(TimeoutError):
        async with asyncio.timeout(10 * BEAT_S):
            await out.take()
    assert not out.begun


async def test_nothing_is_said_to_a_client_that_is_being_sent_something() -> None:
    out = outbox()
    with Vigil(out, BEAT, BEAT_S) as vigil:
        vigil.sends()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10 * BEAT_S):
                await out.take()
    assert not out.begun


@pytest.mark.parametrize("beat", [BEAT, b""])
async def test_a_client_that_takes_nothing_is_left(beat: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 4 * BEAT_S)
    with Vigil(outbox(), beat, BEAT_S) as vigil:
        vigil.sends()
        await asyncio.get_running_loop().create_future()
    assert vigil.stalled


async def test_afterwards_nothing_is_put() -> None:
    out = outbox()
    with Vigil(out, BEAT, BEAT_S):
        pass
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5 * BEAT_S):
            await out.take()
    assert not out.begun
