"""How a call gets its slot: at once, woken, by asking again; and what it is told when it gets none."""

import asyncio

import pytest

from gateway.backends import line as line_module
from gateway.backends.line import RETRY_S_MAX, RETRY_S_MIN
from gateway.backends.seats import Seat
from gateway.core.affinity import HELP_CALLS_MIN
from gateway.core.call import Queued
from gateway.core.placing import Full, Placed, Waiting
from gateway.core.routing import Rates
from gateway.errors import LimitsUnavailable, LineFull, NoBackend, WaitedTooLong
from tests.fake_replica import DEPTH_MAX, WAIT_MS_MAX, Replica
from tests.fakes import MODEL, call, turns

TURNS = 10


def begin(replica: Replica, number: int, **changes: object) -> "asyncio.Task[Seat]":
    return asyncio.create_task(replica.line.seat(replica.attempt(number, **changes)))  # type: ignore[arg-type]


async def leave(replica: Replica, seat: Seat) -> None:
    replica.seats.leave(line_module.Left(id=seat.id))
    await replica.seats.settle()


async def filled(replica: Replica) -> list["asyncio.Task[Seat]"]:
    """The calls that wait; there is room for no other."""
    await begin(replica, 0)
    waiting = [begin(replica, 1 + number) for number in range(DEPTH_MAX)]
    await turns(TURNS)
    return waiting


async def given_up(waiting: list["asyncio.Task[Seat]"]) -> None:
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_slot_costs_one_round_trip_and_is_held() -> None:
    replica = Replica("a")
    seat = await begin(replica, 1)
    assert (seat.backend, seat.model, seat.loads, replica.seats.held) == ("a", MODEL, False, 1)
    assert replica.placement.verbs == ["place"]
    assert replica.observer.of("placed") == [("a",)]


async def test_who_waits_is_woken_and_asks_no_more() -> None:
    replica = Replica("a")
    first = await begin(replica, 1)
    waiting = begin(replica, 2)
    await turns(TURNS)
    assert replica.line.waiting == 1
    replica.tick(700)
    await leave(replica, first)
    seat = await waiting
    assert (seat.id, seat.waited_ms, replica.line.waiting) == ("c2.1", 700, 0)
    assert replica.placement.verbs.count("place") == 2


async def test_who_was_not_woken_finds_out_by_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "POLL_S", 0.01)
    replica = Replica("a")
    replica.placement.on_woken = lambda attempt, placed: None
    first = await begin(replica, 1)
    waiting = begin(replica, 2)
    await turns(TURNS)
    await leave(replica, first)
    async with asyncio.timeout(5):
        assert (await waiting).id == "c2.1"


async def test_who_leaves_the_line_is_forgotten_and_holds_no_slot() -> None:
    replica = Replica("a")
    first = await begin(replica, 1)
    waiting = begin(replica, 2)
    await turns(TURNS)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await replica.seats.settle()
    assert (replica.placement.waiting, replica.line.waiting) == ({}, 0)
    await leave(replica, first)
    assert replica.placement.held == {}


async def test_who_leaves_as_the_slot_comes_gives_it_back() -> None:
    replica = Replica("a")
    first = await begin(replica, 1)
    waiting = begin(replica, 2)
    await turns(TURNS)
    replica.seats.leave(line_module.Left(id=first.id))
    settling = asyncio.create_task(replica.seats.settle())
    waiting.cancel()
    await asyncio.gather(waiting, settling, return_exceptions=True)
    await replica.seats.settle()
    assert (replica.placement.held, replica.seats.held) == ({}, 0)


async def test_a_wake_for_nobody_is_nothing() -> None:
    replica = Replica("a")
    replica.line.woken("gone", Placed("a", loads=False, cached=False))
    first = await begin(replica, 1)
    replica.line.woken(first.id, Placed("b", loads=False, cached=False))
    assert replica.seats.held == 1


async def test_who_will_not_wait_is_told_at_once_when_to_come_back() -> None:
    replica = Replica("a")
    await begin(replica, 1)
    with pytest.raises(WaitedTooLong) as refusal:
        await begin(replica, 2, wait_ms_max=0)
    assert RETRY_S_MIN <= (refusal.value.retry_after_s or 0) <= RETRY_S_MAX
    assert replica.placement.waiting == {}


async def test_it_waits_as_long_as_it_said_and_no_longer_than_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "POLL_S", 0.001)
    for wait_ms_max, lasts_ms in ((5_000, 5_000), (None, WAIT_MS_MAX), (10**9, WAIT_MS_MAX)):
        replica = Replica("a")
        await begin(replica, 1)
        waiting = begin(replica, 2, wait_ms_max=wait_ms_max)
        await turns(TURNS)
        replica.tick(lasts_ms - 1)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        replica.tick(1)
        with pytest.raises(WaitedTooLong):
            await waiting
        await replica.seats.settle()
        assert replica.placement.waiting == {}


async def test_a_line_that_is_full_is_said_to_be() -> None:
    replica = Replica("a")
    waiting = await filled(replica)
    assert not replica.pool.turns_away(call())
    with pytest.raises(LineFull) as refusal:
        await begin(replica, 99)
    assert refusal.value.retry_after_s
    await given_up(waiting)


async def test_a_line_that_was_full_turns_calls_away_until_it_has_moved() -> None:
    replica = Replica("a")
    waiting = await filled(replica)
    with pytest.raises(LineFull):
        await begin(replica, 99)
    assert replica.pool.turns_away(call()) == "line_full"
    assert replica.pool.turns_away(call(model="other:latest")) == "model_not_found"
    assert not replica.pool.turns_away(call(wait_ms_max=0)), "who does not wait needs no place in it"
    replica.tick(line_module.FULL_MS_MAX)
    assert not replica.pool.turns_away(call())
    await given_up(waiting)


async def test_a_short_line_is_taken_for_full_no_longer_than_a_part_of_it_takes_to_be_served() -> None:
    replica = Replica("a")
    replica.placement.rates["a", MODEL] = Rates(call_ms=20.0, calls=1)
    await replica.sync()
    waiting = await filled(replica)
    with pytest.raises(LineFull):
        await begin(replica, 99)
    assert replica.pool.turns_away(call()) == "line_full"
    replica.tick(1 + 20 * DEPTH_MAX // 20)
    assert not replica.pool.turns_away(call())
    await given_up(waiting)


async def test_where_nothing_can_serve_it_nobody_is_asked() -> None:
    replica = Replica("a")
    replica.saw("a", healthy=False)
    with pytest.raises(NoBackend):
        await begin(replica, 1)
    assert replica.placement.verbs == []


async def test_without_redis_nothing_begins_but_who_waits_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "POLL_S", 0.001)
    replica = Replica("a")
    first = await begin(replica, 1)
    waiting = begin(replica, 2)
    await turns(TURNS)
    replica.placement.away = True
    with pytest.raises(LimitsUnavailable):
        await begin(replica, 3)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    replica.placement.away = False
    await leave(replica, first)
    async with asyncio.timeout(5):
        assert (await waiting).id == "c2.1"


async def test_an_answer_that_was_lost_leaves_nothing_behind() -> None:
    replica = Replica("a")
    replica.placement.away = True
    with pytest.raises(LimitsUnavailable):
        await begin(replica, 1)
    assert replica.seats.owed == 1
    replica.placement.away = False
    await replica.placement.hold([("c1.1", "a", MODEL, "k", False)])  # it had arrived
    await replica.seats.settle()
    assert replica.placement.held == {}


async def test_it_is_told_where_it_is_in_the_line_and_about_how_long() -> None:
    replica = Replica("a")
    replica.placement.rates = {("a", MODEL): Rates(call_ms=4_000, calls=9)}
    await replica.sync()
    told: list[Queued] = []
    await begin(replica, 1)
    waiting = [begin(replica, 2), begin(replica, 3, told=told.append)]
    await turns(TURNS)
    assert told == [Queued(2, 8.0)]
    await given_up(waiting)


async def test_what_is_foreseen_is_told_with_reasons_and_changes_nothing() -> None:
    replica = Replica("a", "b", "c")
    replica.saw("b", healthy=False)
    replica.saw("c", models=())
    call = replica.attempt(1).call
    found = await replica.line.foresee(call, 1)
    assert (found.verdict, [one.backend for one in found.ranked]) == (Placed("a", loads=False, cached=False), ["a"])
    assert found.unfit == {"b": "down", "c": "model_missing"}
    await begin(replica, 2)
    found = await replica.line.foresee(call, 1)
    assert (found.verdict, found.about_s > 0) == (Waiting(1, 0), True)
    waiting = [begin(replica, 3 + number) for number in range(DEPTH_MAX)]
    await turns(TURNS)
    assert (await replica.line.foresee(call, 1)).verdict == Full(DEPTH_MAX)
    await given_up(waiting)
    replica.saw("a", healthy=False)
    assert (await replica.line.foresee(call, 1)).verdict is None


async def test_a_memory_that_was_seen_not_to_help_decides_nothing() -> None:
    replica = Replica("a", "b")
    useless = Rates(
        prompt_token_ms=1.0, cached_token_ms=1.0, calls=2 * HELP_CALLS_MIN, cached_calls=HELP_CALLS_MIN,
        output_token_ms=20.0, call_ms=5_000.0,
    )  # fmt: skip
    assert all(one.equal for one in replica.line.ask(replica.attempt(1)).candidates)
    replica.placement.rates = {("a", MODEL): useless}
    await replica.sync()
    assert {one.backend: one.equal for one in replica.line.ask(replica.attempt(1)).candidates} == {
        "a": False,
        "b": True,
    }
