"""Breakers in Redis: whoever tells of an event, it counts once, and all replicas are told the same."""

import asyncio

from gateway.core.breaker import EJECTION_MS, FAULTS_MAX, Breaker, ejected, encode
from tests.fake_replica import Replica
from tests.fakes import turns


async def faults(replica: Replica, count: int, model: str = "*") -> None:
    for _ in range(count):
        await replica.breakers.tell("a", model, "fault", replica.placement.now_ms)


async def test_an_event_changes_the_breaker_here_and_in_redis_and_is_reported() -> None:
    replica = Replica()
    await faults(replica, FAULTS_MAX)
    one = replica.breaker("a")
    assert one.until_ms == replica.placement.now_ms + EJECTION_MS
    assert replica.view.snapshot()[0].ejected == {"*"}
    assert replica.observer.of("ejected") == [("a", "*")]
    assert await replica.breakers.tell("a", "*", "trial_ok", one.until_ms)
    assert (replica.view.snapshot()[0].ejected, replica.observer.of("returned")) == (frozenset(), [("a", "*")])


async def test_what_changes_nothing_costs_nothing() -> None:
    replica = Replica()
    assert not await replica.breakers.tell("a", "*", "ok", 1)
    assert replica.placement.verbs == []


async def test_another_replicas_fault_counts_on_top() -> None:
    """As it ended, Redis said what the breaker was; meanwhile another call failed."""
    replica, other = Replica(), Replica()
    other.breakers._placement = replica.placement
    one = Breaker(failures=1)
    replica.placement.told["breaker:a *"] = encode(one)
    await replica.breakers.tell("a", "*", "fault", 1, was=one)
    assert await other.breakers.tell("a", "*", "fault", 1, was=Breaker())
    assert ejected(other.breaker("a"))
    assert other.observer.of("ejected") == [("a", "*")]


async def test_it_is_reported_once_however_many_tell() -> None:
    replica = Replica()
    await asyncio.gather(*(faults(replica, 1) for _ in range(10)))
    await turns(5)
    assert replica.observer.of("ejected") == [("a", "*")]


async def test_what_redis_says_comes_before_what_the_replica_remembers() -> None:
    replica = Replica()
    replica.placement.told["breaker:a *"] = b'{"failures":2}'
    await replica.breakers.tell("a", "*", "fault", 1)
    assert replica.breaker("a").ejections == 1


async def test_faults_that_replicas_tell_of_at_once_all_count() -> None:
    replica, other = Replica(), Replica()
    other.breakers._placement = replica.placement
    tellers = [one.breakers.tell("a", "*", "fault", 1) for one in (replica, other)]
    assert await asyncio.gather(*tellers) == [True, True]
    assert max(replica.breaker("a").failures, other.breaker("a").failures) == 2


async def test_of_two_replicas_one_tries() -> None:
    replica, other = Replica(), Replica()
    other.breakers._placement = replica.placement
    await faults(replica, FAULTS_MAX)
    due_ms = replica.breaker("a").until_ms
    other.view.judged("a", "*", replica.breaker("a"))
    assert [await one.breakers.tell("a", "*", "trial", due_ms) for one in (replica, other)] == [True, False]
