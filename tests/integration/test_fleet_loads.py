"""Cold models: a node loads one once, for one call, and the others wait for that; who needs no load does not."""

from collections import Counter
from random import Random

from gateway.core.placing import Placed, Waiting
from gateway.core.routing import Candidate
from tests.fleets import OTHER, FleetBench, M, ask, candidate, place

SLOT_MS, LOADED_MS = 15_000, 5_000
LONG = 1_000
"""a load that is never worth a second one"""
NODES = ("n1", "n2", "n3", "n4")


def cold(*names: str, load_from: int = 1, slots: int = 2) -> list[Candidate]:
    return [candidate(name, slots=slots, cold=True, load_from=load_from) for name in names]


async def test_fifty_first_calls_are_one_load_for_each_node_used(fleet: FleetBench, seed: str) -> None:
    """The replicas have not seen any load yet, and rank as they like."""
    await fleet.register(**dict.fromkeys(NODES, 2))
    chance, loads = Random(seed), Counter[str]()
    for number in range(50):
        where = cold(*chance.sample(NODES, len(NODES)), load_from=2)
        said = await place(chance.choice((fleet.a, fleet.b, fleet.c)), ask(f"c{number}", *where))
        if isinstance(said, Placed):
            assert said.loads
            loads[said.backend] += 1
    seen = fleet.seen()
    assert set(loads.values()) == {1}
    assert seen.busy == Counter([*loads, *(f"{name} {M}" for name in loads)]), "nobody waits in a slot for a load"
    assert len(seen.waiting) == 50 - len(loads)
    for name in loads:
        assert await fleet.b.loaded([(name, M)]) == 1
    seen = fleet.seen()
    assert {name: seen.busy[name] for name in loads} == dict.fromkeys(loads, 2), "its other slots are given out"
    assert sum(held.l for held in seen.held.values()) == len(loads), "no second load"


async def test_a_model_that_takes_long_to_load_is_loaded_once(fleet: FleetBench) -> None:
    await fleet.register(**dict.fromkeys(NODES, 2))
    for number in range(50):
        await place(fleet.a, ask(f"c{number}", *cold(*NODES, load_from=LONG)))
    assert set(fleet.seen().held) == {"c0"}
    await fleet.leave("c0", good=True)
    assert {held.b for held in fleet.seen().held.values()} == {"n1"}
    assert [held.l for held in fleet.seen().held.values()] == [0, 0], "it is loaded now"


async def test_another_node_loads_it_when_so_many_wait_that_it_is_worth_it(fleet: FleetBench) -> None:
    await fleet.register(**dict.fromkeys(NODES, 1))
    said = [await place(fleet.a, ask(f"c{number}", *cold(*NODES, load_from=3))) for number in range(12)]
    assert [number for number, one in enumerate(said) if isinstance(one, Placed)] == [0, 3, 7, 11], (
        "one, then when three wait for the one, then when six wait for the two, and so on"
    )
    foreseen = ask("new", *cold(*NODES, load_from=3))
    assert (await fleet.a.foresee(foreseen, depth_max=99))[0] == Waiting(9, 8)


async def test_a_load_that_failed_is_begun_by_the_next(fleet: FleetBench) -> None:
    await fleet.register(n1=2, n2=2)
    for name in ("one", "two", "three"):
        await place(fleet.a, ask(name, *cold("n1", "n2", load_from=LONG)))
    await fleet.leave("one", good=False)
    seen = fleet.seen()
    assert {name: (held.b, held.l) for name, held in seen.held.items()} == {"two": ("n1", 1)}
    assert seen.loads == {"n1": f"two {M}"}


async def test_a_load_whose_replica_died_is_begun_by_the_next(fleet: FleetBench) -> None:
    await fleet.register(n1=2)
    await place(fleet.a, ask("dead", *cold("n1")))
    for _ in range(5):
        fleet.tick(SLOT_MS // 5)
        said = await place(fleet.b, ask("two", *cold("n1", load_from=LONG)))
    assert said == Placed("n1", loads=True, cached=False)


async def test_calls_to_what_is_loaded_do_not_wait_behind_a_load(fleet: FleetBench) -> None:
    await fleet.register(n1=3)
    await place(fleet.a, ask("loader", *cold("n1", slots=3)))
    await place(fleet.a, ask("waits", *cold("n1", slots=3)))
    said = await place(fleet.b, ask("warm", candidate("n1", slots=3), model=OTHER))
    assert said == Placed("n1", loads=False, cached=False)


async def test_a_node_loads_one_model_at_a_time(fleet: FleetBench) -> None:
    await fleet.register(n1=3, n2=3)
    await place(fleet.a, ask("one", *cold("n1")))
    assert type(await place(fleet.a, ask("two", *cold("n1"), model=OTHER))) is Waiting
    assert await place(fleet.a, ask("three", *cold("n1", "n2"), model=OTHER)) == Placed("n2", True, False)
    await fleet.a.loaded([("n1", M)])
    assert fleet.seen().loads["n1"] == f"two {OTHER}"


async def test_slots_that_are_free_at_once_begin_one_load(fleet: FleetBench) -> None:
    """The first of those that wait begins it; the others are looked at in the same call, and have to know."""
    await fleet.register(n1=0)
    for name in ("one", "two"):
        await place(fleet.a, ask(name, *cold("n1", load_from=LONG)))
    await place(fleet.a, ask("other", *cold("n1", load_from=LONG), key="k2", model=OTHER))
    await fleet.register(n1=3)
    assert set(fleet.seen().held) == {"one"}
    await fleet.a.loaded([("n1", M)])
    assert {name: held.l for name, held in fleet.seen().held.items()} == {"one": 1, "two": 0, "other": 1}


async def test_who_has_not_heard_of_a_load_yet_begins_no_second_one(fleet: FleetBench) -> None:
    await fleet.register(n1=3)
    await place(fleet.a, ask("one", *cold("n1")))
    await fleet.a.loaded([("n1", M)])
    fleet.tick(LOADED_MS - 1)
    assert await place(fleet.b, ask("two", *cold("n1"))) == Placed("n1", False, False)
    fleet.tick(1)
    assert await place(fleet.b, ask("three", *cold("n1"))) == Placed("n1", True, False)


async def test_where_a_model_is_loaded_full_slots_are_waited_for_rather_than_loading_it_elsewhere(
    fleet: FleetBench,
) -> None:
    await fleet.register(n1=1, n2=1)
    where = candidate("n1"), candidate("n2", cold=True, load_from=2)
    said = [await place(fleet.a, ask(f"c{number}", *where)) for number in range(3)]
    assert [type(one) for one in said] == [Placed, Waiting, Placed]
    assert said[2] == Placed("n2", loads=True, cached=False)


async def test_a_call_that_needs_more_context_than_is_loaded_begins_no_second_load_on_the_node(
    fleet: FleetBench,
) -> None:
    """It is of the same key and has its conversation there: the slot goes to it only where that is no reload."""
    await fleet.register(n1=1)
    await place(fleet.a, ask("one", records=("d",)))
    await place(fleet.a, ask("head"))
    await place(fleet.a, ask("larger", *cold("n1"), lookups=("d",)))
    await fleet.leave("one", good=True)
    assert set(fleet.seen().held) == {"head"}


async def test_what_was_loaded_for_somebody_else_ends_no_load(fleet: FleetBench) -> None:
    await fleet.register(n1=2)
    await place(fleet.a, ask("one", *cold("n1")))
    assert await fleet.a.loaded([("n1", OTHER), ("n2", M)]) == 0
    assert fleet.seen().loads == {"n1": f"one {M}"}
