"""Slots that calls hold: renewed in time, given back once, even when Redis was away as they ended."""

import asyncio

import pytest

from gateway.backends import seats as seats_module
from gateway.backends.seats import AT_ONCE_MAX, GOOD, RENEW_MS, Seat, Verdict
from gateway.core.breaker import FAULTS_MAX
from gateway.core.placing import Left
from gateway.errors import LimitsUnavailable
from tests.fake_replica import Replica
from tests.fakes import MODEL, turns


def seat(number: int = 1, backend: str = "a") -> Seat:
    return Seat(id=f"c{number}", backend=backend, model=MODEL, key_id="k", loads=False, cached=False)


async def test_a_slot_is_counted_held_and_given_back() -> None:
    replica = Replica()
    replica.seats.take(seat())
    assert (replica.seats.held, replica.view.snapshot()[0].busy) == (1, 1)
    assert [one.id for one in replica.seats.running("a", MODEL)] == ["c1"]
    replica.seats.leave(Left(id="c1", tokens=7))
    assert (replica.seats.held, replica.view.snapshot()[0].busy, replica.seats.owed) == (0, 0, 1)
    await replica.seats.settle()
    assert (replica.placement.left, replica.seats.owed) == ([Left(id="c1", tokens=7)], 0)


async def test_what_is_owed_is_kept_while_redis_is_away_and_told_once() -> None:
    replica = Replica()
    replica.placement.away = True
    replica.seats.leave(Left(id="c1"))
    with pytest.raises(LimitsUnavailable):
        await replica.seats.settle()
    assert replica.seats.owed == 1
    replica.placement.away = False
    await replica.seats.settle()
    await replica.seats.settle()
    assert [left.id for left in replica.placement.left] == ["c1"]


async def test_what_is_owed_is_bounded_and_told_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats_module, "OWED_MAX", AT_ONCE_MAX + 1)
    replica = Replica()
    for number in range(2 * AT_ONCE_MAX):
        replica.seats.leave(Left(id=f"c{number}"))
    assert replica.seats.owed == AT_ONCE_MAX + 1
    await replica.seats.settle()
    assert replica.placement.verbs.count("leave") == 2


async def test_slots_are_renewed_at_once_and_then_every_so_often() -> None:
    replica = Replica()
    replica.seats.take(seat())
    for ms, holds in ((0, 1), (RENEW_MS - 1, 1), (1, 2), (0, 2)):
        replica.tick(ms)
        await replica.seats._renew()
        assert replica.placement.verbs.count("hold") == holds


async def test_a_renewal_that_did_not_arrive_is_made_again() -> None:
    replica = Replica()
    replica.seats.take(seat())
    replica.placement.away = True
    with pytest.raises(LimitsUnavailable):
        await replica.seats._renew()
    replica.placement.away = False
    await replica.seats._renew()
    assert replica.placement.busy("a") == 1


async def test_the_loop_gives_back_at_once_and_outlives_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats_module, "ROUND_S", 0.01)
    replica = Replica()
    replica.placement.away = True
    running = asyncio.create_task(replica.seats.run())
    replica.seats.leave(Left(id="c1"))
    replica.placement.away = False
    async with asyncio.timeout(5):
        while replica.seats.owed:
            await asyncio.sleep(0)
    running.cancel()


async def test_the_loop_ends_when_it_is_told_to_whatever_has_just_happened() -> None:
    replica = Replica()
    running = asyncio.create_task(replica.seats.run())
    await turns(3)
    replica.seats.leave(Left(id="c1"))
    running.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(running, return_exceptions=True)


async def test_an_outcome_is_held_against_the_node_or_the_model_there() -> None:
    replica = Replica()
    for number in range(FAULTS_MAX):
        replica.seats.take(seat(number))
        replica.seats.leave(Left(id=f"c{number}"), Verdict(node="ok", pair="fault"))
    await replica.seats.settle()
    assert replica.view.snapshot()[0].ejected == {MODEL}
    replica.seats.take(seat(9, "b"))
    replica.seats.leave(Left(id="c9"), Verdict(node="fault"))
    await replica.seats.settle()
    assert (replica.breaker("b").failures, replica.breaker("b", MODEL).failures) == (1, 0)
    replica.seats.take(seat(10, "b"))
    replica.seats.leave(Left(id="c10"), GOOD)
    await replica.seats.settle()
    assert replica.breaker("b").failures == 0


async def test_a_call_that_never_had_a_slot_is_held_against_nobody() -> None:
    replica = Replica()
    replica.seats.leave(Left(id="c1"), Verdict(node="fault", pair="fault"))
    await replica.seats.settle()
    assert replica.view.breakers() == {}


async def test_a_model_that_is_there_is_told_of() -> None:
    replica = Replica()
    replica.placement.loads["a"] = ("c1", MODEL)
    replica.seats.loaded("a", MODEL)
    await replica.seats.settle()
    assert replica.placement.loads == {}


async def test_a_model_that_is_there_is_told_of_when_redis_is_back() -> None:
    replica = Replica()
    replica.placement.loads["a"] = ("c1", MODEL)
    replica.seats.loaded("a", MODEL)
    replica.placement.away = True
    with pytest.raises(LimitsUnavailable):
        await replica.seats.settle()
    replica.placement.away = False
    await replica.seats.settle()
    assert replica.placement.loads == {}
