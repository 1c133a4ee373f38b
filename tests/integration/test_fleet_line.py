"""The waiting line: fair between keys by tokens, whatever they ask at once and whatever their calls come to."""

from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest

from gateway.core.placing import Placed, Waiting
from tests.fleets import OTHER, FleetBench, M, ask, candidate, place
from tests.integration.fleet_crowd import Crowd, User, patient

LONG_MS = 30_000
CLOSE = 0.1


@pytest.fixture
def patience(redis_url: str) -> Iterator[FleetBench]:
    one = FleetBench(redis_url, patient())
    yield one
    one.close()


@pytest.fixture
async def crowd(patience: FleetBench, seed: str) -> AsyncIterator[Crowd]:
    yield Crowd(patience, 4, Random(seed))


def close(one: float, other: float) -> bool:
    return abs(one - other) <= CLOSE * max(one, other)


async def test_one_call_at_a_time_is_not_kept_waiting_by_five_hundred(crowd: Crowd) -> None:
    many, one = User("many", 500, actual=lambda chance: chance.randrange(50, 150)), User("one", 1)
    await crowd.run([many, one], 10_000)
    print(one.calls, crowd.passed["one"])
    assert one.calls > 50
    assert crowd.passed["one"] <= 1, "of the four slots the next is its own"


async def test_tokens_are_served_by_weight(crowd: Crowd) -> None:
    light, heavy = User("light", 30), User("heavy", 30, weight=3)
    await crowd.run([light, heavy], LONG_MS)
    print(light.served, heavy.served)
    assert close(3 * light.served, heavy.served)


async def test_tokens_are_shared_and_not_calls(crowd: Crowd) -> None:
    long, short = User("long", 20, expected=1_000, actual=lambda _: 1_000), User("short", 20)
    await crowd.run([long, short], LONG_MS)
    print(long.served, short.served, long.calls, short.calls)
    assert close(long.served, short.served)


@pytest.mark.parametrize(
    ("expected", "actual"), [(1_000, 100), (10, 100), (100, 0)], ids=["too many", "too few", "by chance"]
)
async def test_what_calls_come_to_counts_and_not_what_was_expected(crowd: Crowd, expected: int, actual: int) -> None:
    wrong = User("wrong", 20, expected=expected, actual=lambda chance: actual or chance.randrange(1, 500))
    right = User("right", 20)
    await crowd.run([wrong, right], LONG_MS)
    print(wrong.served, right.served)
    assert close(wrong.served, right.served)


async def test_who_was_away_has_saved_nothing_up(crowd: Crowd) -> None:
    there, late = User("there", 20), User("late", 20, since_ms=20_000)
    await crowd.run([there, late], 30_000)
    came = crowd.grants.index("late")
    both = crowd.grants[came : came + 100]
    assert 45 <= both.count("late") <= 55


async def test_three_keys_of_different_kinds_are_served_alike(crowd: Crowd) -> None:
    users = [User("a", 50), User("b", 8), User("c", 8, expected=300, actual=lambda chance: chance.randrange(1, 600))]
    await crowd.run(users, LONG_MS)
    print([user.served for user in users])
    assert all(close(user.served, users[0].served) for user in users)


async def test_what_nobody_else_waited_for_is_not_held_against_a_key(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    for number in range(5):
        await place(fleet.a, ask(f"alone-{number}", key="k1", tokens=10_000))
        await fleet.leave(f"alone-{number}", tokens=10_000, good=True)
    assert fleet.seen().served == {}


async def test_a_key_waits_in_its_own_order(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    names = [f"c{number}" for number in range(12)]
    for name in names:
        await place(fleet.a, ask(name))
    for name in names:
        assert set(fleet.seen().held) == {name}
        await fleet.leave(name)


async def test_a_slot_is_for_the_first_that_can_use_it_however_many_keys_cannot(fleet: FleetBench) -> None:
    await fleet.register(n1=1, n2=1)
    await place(fleet.a, ask("runs", candidate("n1")))
    await place(fleet.a, ask("ends", candidate("n2"), model=OTHER))
    for number in range(40):
        await place(fleet.a, ask(f"c{number}", candidate("n1"), key=f"a{number}"))
    await place(fleet.a, ask("last", candidate("n2"), key="z", model=OTHER))
    await fleet.leave("ends")
    assert set(fleet.seen().held) == {"runs", "last"}


async def test_the_position_is_how_many_come_first(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("runs", key="k0"))
    for number in range(1, 6):
        assert await place(fleet.a, ask(f"c{number}")) == Waiting(number, number)
    await fleet.leave("runs")
    for number in range(2, 6):
        assert await place(fleet.a, ask(f"c{number}")) == Waiting(number - 1, 4)


async def test_between_two_keys_the_position_is_the_turn_they_get_a_slot_in(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("runs", key="k0"))
    wishes = {f"{key}-{number}": ask(f"{key}-{number}", key=key) for key in ("k1", "k2") for number in range(6)}
    for wish in wishes.values():
        await place(fleet.a, wish)
    told = {name: await place(fleet.b, wish) for name, wish in wishes.items()}
    running, order = "runs", []
    while True:
        await fleet.leave(running)
        held = list(fleet.seen().held)
        if not held:
            break
        (running,) = held
        order.append(running)
    found = {name: order.index(name) + 1 for name in wishes}
    positions = {name: said.position for name, said in told.items() if isinstance(said, Waiting)}
    assert found == positions


async def test_keys_that_wait_for_other_models_are_not_counted(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("runs", key="k0"))
    for number in range(3):
        await place(fleet.a, ask(f"other-{number}", key="k1", model=OTHER))
    assert await place(fleet.a, ask("one", key="k2")) == Waiting(1, 1)


async def test_a_key_is_not_taken_for_another_whose_name_begins_alike(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("runs", key="k0"))
    for key in ("k", "k1", "k11"):
        await place(fleet.a, ask(f"of-{key}", key=key, model="m:1"))
        await place(fleet.a, ask(f"more-of-{key}", key=key, model="m:11"))
    await fleet.leave("of-k", "more-of-k1")
    assert set(fleet.seen().line) == {"k", "k1", "k11"}
    assert await place(fleet.a, ask("more-of-k", key="k", model="m:11")) == Waiting(1, 2)
    await fleet.leave("more-of-k", "of-k11")
    assert set(fleet.seen().line) == {"k1", "k11"}


async def test_a_slot_that_the_first_cannot_use_goes_to_who_can(fleet: FleetBench) -> None:
    """The first of a key has failed there already; the second has not, nor has another key's or another model's."""
    for second in ({}, {"key": "k2"}, {"model": OTHER}):
        fleet.redis.flushall()
        fleet.tick(0)
        await fleet.register(n1=1, n2=1)
        await place(fleet.a, ask("one", candidate("n1")))
        await place(fleet.a, ask("two", candidate("n2")))
        await place(fleet.a, ask("head", candidate("n2")))
        await place(fleet.a, ask("next", candidate("n2"), candidate("n1"), **second))  # type: ignore[arg-type]
        await fleet.leave("one")
        assert {name: held.b for name, held in fleet.seen().held.items()} == {"two": "n2", "next": "n1"}


async def test_a_waiting_call_that_asks_again_keeps_its_place_and_gets_what_it_learned(fleet: FleetBench) -> None:
    await fleet.register(n1=1, n2=1)
    await place(fleet.a, ask("one", candidate("n1")))
    await place(fleet.a, ask("first", candidate("n1")))
    await place(fleet.a, ask("second", candidate("n1")))
    said = await place(fleet.a, ask("second", candidate("n1"), candidate("n2")))
    assert said == Placed("n2", loads=False, cached=False), "it has heard of another node"
    assert await place(fleet.a, ask("first", candidate("n1"))) == Waiting(1, 1)


async def test_who_joins_begins_where_the_line_is_however_it_came_to_be_there(fleet: FleetBench) -> None:
    """A waiting call that finds a slot when it asks again moves the line on as one that is granted a slot does."""
    await fleet.register(n1=1, n2=1)
    await place(fleet.a, ask("one", candidate("n1"), key="k0"))
    for number in range(4):
        await place(fleet.a, ask(f"c{number}", candidate("n1"), tokens=1_000))
        await place(fleet.a, ask(f"c{number}", candidate("n1"), candidate("n2"), tokens=1_000))
        await place(fleet.a, ask(f"c{number}-waits", candidate("n1"), tokens=1_000))
        await fleet.leave(f"c{number}", tokens=1_000, good=True)
    await place(fleet.a, ask("new", candidate("n1"), key="k2"))
    assert fleet.seen().line["k2"] == 3_000


async def test_many_keys_cost_little(fleet: FleetBench) -> None:
    """What a grant costs when many keys wait; printed."""
    await fleet.register(**{f"n{number}": 4 for number in range(32)})
    where = [candidate(f"n{number}", slots=4) for number in range(32)]
    for number in range(128):
        await place(fleet.a, ask(f"r{number}", *where))
    for number in range(1_000):
        await place(fleet.a, ask(f"w{number}", *where, key=f"k{number % 200}"))
    took_us = []
    for _ in range(100):
        held = next(iter(fleet.redis.hkeys("{fleet}:held")))
        before = int(fleet.redis.info("commandstats")["cmdstat_fcall"]["usec"])
        await fleet.leave(held)
        took_us.append(int(fleet.redis.info("commandstats")["cmdstat_fcall"]["usec"]) - before)
    print(f"leaving with a grant, 200 keys and 1,000 calls waiting, 32 nodes: {sorted(took_us)[50]} us")
    seen = fleet.seen()
    assert (len(seen.held), len(seen.waiting)) == (128, 900)
    assert sum(seen.depths.values()) == 900
    assert seen.depths == {M: 900}
