"""What a replica may rely on of placement: the fake keeps the same promises as the functions in a real Redis."""

from collections.abc import Callable, Iterator

import pytest

from gateway.core.breaker import Breaker
from gateway.core.placing import Full, Left, Placed, Waiting, breaker_name
from gateway.ports import Placement
from tests.fake_placement import FakePlacement
from tests.fleets import DEPTH_MAX, OTHER, FleetBench, M, ask, candidate

HERE = Placed("n1", loads=False, cached=False)


class Slots:
    """A placement and its clock."""

    def __init__(self, placement: Placement, tick: Callable[[int], None]) -> None:
        self.placement = placement
        self.tick = tick

    async def place(self, name: str, *where: object, waits: bool = True, depth_max: int = DEPTH_MAX, **more: object):  # type: ignore[no-untyped-def]
        return await self.placement.place(ask(name, *where, **more), depth_max=depth_max, waits=waits)  # type: ignore[arg-type]

    async def leave(self, *names: str, good: bool = True) -> list[object]:
        return list(await self.placement.leave([Left(id=name, good=good) for name in names]))


def fake() -> Iterator[Slots]:
    placement = FakePlacement()

    def tick(ms: int) -> None:
        placement.now_ms += ms

    yield Slots(placement, tick)


def real(redis_url: str) -> Iterator[Slots]:
    bench = FleetBench(redis_url)
    yield Slots(bench.a, bench.tick)
    bench.close()


@pytest.fixture(params=["fake", "real"])
def slots(request: pytest.FixtureRequest) -> Iterator[Slots]:
    yield from fake() if request.param == "fake" else real(request.getfixturevalue("redis_url"))


async def test_the_first_with_room_is_taken_and_then_the_call_waits(slots: Slots) -> None:
    two = candidate("n1"), candidate("n2")
    assert [await slots.place(name, *two) for name in ("one", "two", "three")] == [
        HERE, Placed("n2", loads=False, cached=False), Waiting(1, 1),
    ]  # fmt: skip


async def test_asking_again_changes_nothing(slots: Slots) -> None:
    for _ in range(2):
        assert await slots.place("one") == HERE
    for _ in range(2):
        assert await slots.place("two") == Waiting(1, 1)


async def test_who_does_not_wait_is_told_its_place_and_gets_none(slots: Slots) -> None:
    await slots.place("one")
    assert await slots.place("two", waits=False, depth_max=0) == Waiting(1, 0)
    await slots.leave("one")
    assert await slots.place("three") == HERE


async def test_the_line_of_a_model_is_bounded(slots: Slots) -> None:
    await slots.place("one")
    await slots.place("two", depth_max=1)
    assert await slots.place("three", depth_max=1) == Full(1)
    assert await slots.place("two", depth_max=1) == Waiting(1, 1)
    assert await slots.place("four", depth_max=1, model=OTHER) == Waiting(1, 1)


async def test_a_slot_goes_to_who_waits_first(slots: Slots) -> None:
    for name in ("one", "two", "three", "four"):
        await slots.place(name)
    assert await slots.leave("two") == [None]
    freed = await slots.leave("one", "one", "nobody")
    assert freed[0].backend == "n1"  # type: ignore[attr-defined]
    assert freed[1:] == [None, None]
    assert await slots.place("three") == HERE
    assert await slots.place("four") == Waiting(1, 1)


async def test_what_is_foreseen_is_what_happens_and_changes_nothing(slots: Slots) -> None:
    for name in ("one", "two", "three"):
        wish = ask(name, lookups=("d",), records=("d",))
        foreseen = [await slots.placement.foresee(wish, depth_max=1) for _ in range(2)]
        said = await slots.placement.place(wish, depth_max=1, waits=True)
        if isinstance(said, Waiting):
            assert foreseen == [(Waiting(said.position, said.depth - 1), "n1")] * 2
        else:
            assert foreseen == [(said, "" if name == "one" else "n1")] * 2


async def test_slots_that_nobody_knows_of_are_taken_again(slots: Slots) -> None:
    held = [("one", "n1", M, "k1", False)]
    assert [await slots.placement.hold(held) for _ in range(2)] == [1, 0]
    assert await slots.place("two") == Waiting(1, 1)
    assert (await slots.leave("one"))[0]
    assert await slots.place("two") == HERE


async def test_a_load_that_nobody_knows_of_is_taken_again_and_ends_as_any(slots: Slots) -> None:
    where = [candidate("n1", slots=3, cold=True, load_from=9)]
    assert await slots.placement.hold([("one", "n1", M, "k1", True)]) == 1
    assert await slots.place("two", *where) == Waiting(1, 1)
    assert await slots.placement.loaded([("n1", M)]) == 1
    assert await slots.place("two", *where) == HERE


async def test_one_call_loads_and_the_others_wait_for_it(slots: Slots) -> None:
    where = [candidate("n1", slots=3, cold=True, load_from=9)]
    assert await slots.place("one", *where) == Placed("n1", loads=True, cached=False)
    assert await slots.place("two", *where) == Waiting(1, 1)
    assert await slots.place("warm", candidate("n1", slots=3), model=OTHER) == HERE
    assert await slots.placement.loaded([("n1", OTHER), ("n2", M)]) == 0
    assert await slots.placement.loaded([("n1", M)]) == 1
    assert await slots.place("two", *where) == HERE


@pytest.mark.parametrize("good", [True, False])
async def test_the_end_of_a_load_is_heard_of_by_the_next(slots: Slots, good: bool) -> None:
    where = [candidate("n1", cold=True, load_from=9)]
    await slots.place("one", *where)
    await slots.place("two", *where)
    await slots.leave("one", good=good)
    assert await slots.place("two", *where) == Placed("n1", loads=not good, cached=False)


async def test_it_is_loaded_elsewhere_too_when_enough_wait(slots: Slots) -> None:
    where = [candidate("n1", cold=True, load_from=2), candidate("n2", cold=True, load_from=2)]
    assert [type(await slots.place(name, *where)) for name in ("one", "two", "three")] == [Placed, Waiting, Placed]


async def test_a_prompts_node_is_preferred_among_equals(slots: Slots) -> None:
    await slots.place("before", candidate("n2", slots=2), records=("d",))
    equals = candidate("n1"), candidate("n2", slots=2)
    assert await slots.place("one", *equals, lookups=("x", "d")) == Placed("n2", loads=False, cached=True)
    assert await slots.place("two", *equals, lookups=("d",)) == Placed("n1", loads=False, cached=False)


async def test_news_are_told_once(slots: Slots) -> None:
    async def news(revision: int) -> tuple[int, dict[str, bytes]]:
        told = await slots.placement.sync(0, revision, rates=False, turns={})
        return told.revision, told.told

    await slots.placement.saw({"state:n1": b"up", "models:n1": b"m"})
    first, told = await news(0)
    assert told == {"state:n1": b"up", "models:n1": b"m"}
    await slots.placement.saw({"state:n1": b"up"})
    assert await news(first) == (first, {})
    await slots.placement.saw({"state:n1": b""})
    assert (await news(first))[1] == {"state:n1": b""}
    assert set((await news(10**9))[1]) == {"state:n1", "models:n1"}, "it has lost what the replica knows"


async def test_the_fleet_is_seen_as_it_is(slots: Slots) -> None:
    await slots.place("one", candidate("n1", cold=True))
    await slots.place("two")
    news = await slots.placement.sync(0, 0, rates=False, turns={})
    assert (news.busy, news.loads, news.depths) == ({"n1": 1, f"n1 {M}": 1}, {"n1": M}, {M: 1})
    assert (news.version, news.registry, news.rates) == (0, None, None)


async def test_a_turn_is_had_once_until_it_is_due(slots: Slots) -> None:
    async def mine() -> list[str]:
        return (await slots.placement.sync(0, 0, rates=False, turns={"probe n1": 3_000})).turns

    assert [await mine(), await mine()] == [["probe n1"], []]
    slots.tick(2_999)
    assert await mine() == []
    slots.tick(1)
    assert await mine() == ["probe n1"]


async def test_a_breaker_is_changed_from_what_it_was(slots: Slots) -> None:
    name, one, two = breaker_name("n1"), Breaker(failures=1), Breaker(failures=2)
    assert (await slots.placement.judge(name, Breaker(), one))[1] is None
    assert (await slots.placement.judge(name, Breaker(), two))[1] == one
    await slots.placement.judge(breaker_name("n1", M), Breaker(), two)
    await slots.place("call")
    freed = (await slots.placement.leave([Left(id="call")]))[0]
    assert freed
    assert (freed.node, freed.pair) == (one, two)
