"""Which node has a prompt's beginning in mind: it is preferred among equals, where it has room, within bounds."""

import pytest
from msgspec.structs import replace

from gateway.core.placing import Placed, Waiting
from gateway.state.functions import fleet_source
from tests.fleets import FleetBench, ask, candidate, place

PREFIXES_MAX = 10
KIN_MS = 2_000
HOME_MS = 300
EQUALS = candidate("n1", slots=2), candidate("n2", slots=2)


@pytest.fixture
async def two(fleet: FleetBench) -> FleetBench:
    """n2 has served the conversation d1, d2."""
    await fleet.register(n1=2, n2=2)
    await place(fleet.a, ask("before", candidate("n2"), records=("d2", "d1")))
    await fleet.leave("before", good=True)
    return fleet


async def test_the_node_that_served_the_beginning_is_preferred_among_equals(two: FleetBench) -> None:
    said = await place(two.b, ask("next", *EQUALS, lookups=("d3", "d2")))
    assert said == Placed("n2", loads=False, cached=True)
    assert await place(two.b, ask("other", *EQUALS, lookups=("x",))) == Placed("n1", loads=False, cached=False)


async def test_the_longest_beginning_decides(two: FleetBench) -> None:
    await place(two.a, ask("branch", candidate("n1"), records=("d3",)))
    for name, lookups, where in (("one", ("d3", "d2"), "n1"), ("two", ("d9", "d2", "d3"), "n2")):
        said = await place(two.b, ask(name, *EQUALS[::-1], lookups=lookups))
        assert said == Placed(where, loads=False, cached=True)


async def test_the_last_that_served_it_has_it(two: FleetBench) -> None:
    await place(two.a, ask("moved", candidate("n1"), lookups=("d2",), records=("d2",)))
    await two.leave("moved")
    assert await place(two.b, ask("next", *EQUALS[::-1], lookups=("d2",))) == Placed("n1", False, cached=True)


async def test_it_decides_nothing_where_the_node_is_not_as_good_or_full(two: FleetBench) -> None:
    worse = candidate("n1"), candidate("n2", equal=False)
    assert await place(two.a, ask("one", *worse, lookups=("d2",))) == Placed("n1", False, cached=False)
    for number in range(2):
        await place(two.a, ask(f"full-{number}", candidate("n2")))
    assert await place(two.a, ask("two", *EQUALS, lookups=("d2",))) == Placed("n1", False, cached=False)


async def test_it_is_no_reason_to_load_a_model_twice(two: FleetBench) -> None:
    cold = candidate("n1"), candidate("n2", cold=True, load_from=9)
    assert await place(two.a, ask("one", *cold, lookups=("d2",))) == Placed("n1", False, cached=False)


async def test_of_a_keys_waiting_calls_the_one_the_node_has_in_mind_gets_its_slot(two: FleetBench) -> None:
    await two.register(n1=0, n2=1)
    await place(two.a, ask("runs", candidate("n2")))
    await place(two.a, ask("first", *EQUALS))
    await place(two.a, ask("kin", *EQUALS, lookups=("d2",)))
    await place(two.a, ask("of-another", *EQUALS, key="k0", lookups=("d9",)))
    await two.leave("runs")
    assert set(two.seen().held) == {"of-another"}, "between keys it decides nothing"
    await two.leave("of-another")
    assert set(two.seen().held) == {"kin"}
    assert two.seen().held["kin"].h == 1


async def test_nobody_is_passed_over_for_long(two: FleetBench) -> None:
    await two.register(n1=0, n2=1)
    await place(two.a, ask("runs", candidate("n2")))
    await place(two.a, ask("first", *EQUALS))
    two.tick(KIN_MS + 1)
    await place(two.a, ask("kin", *EQUALS, lookups=("d2",)))
    await two.leave("runs")
    assert set(two.seen().held) == {"first"}


async def test_only_so_many_beginnings_are_remembered_and_the_oldest_forgotten(redis_url: str) -> None:
    library = fleet_source()
    assert "PREFIXES_MAX = 50000" in library
    fleet = FleetBench(redis_url, library.replace("PREFIXES_MAX = 50000", f"PREFIXES_MAX = {PREFIXES_MAX}"))
    await fleet.register(n1=1)
    for number in range(3 * PREFIXES_MAX):
        fleet.tick(1)
        await place(fleet.a, ask(f"c{number}", records=(f"d{number:02}a", f"d{number:02}b", "same")))
        await fleet.leave(f"c{number}")
    prefixes = set(fleet.redis.hkeys("{fleet}:prefixes"))
    assert prefixes == set(fleet.redis.zrange("{fleet}:ages", 0, -1))
    assert len(prefixes) == PREFIXES_MAX
    assert {"same", "d29a", "d29b", "d28b"} <= prefixes
    fleet.close()


async def test_a_call_waits_a_little_for_the_node_that_knows_it_where_others_are_busy_too(two: FleetBench) -> None:
    for number, name in enumerate(("n1", "n2", "n2")):
        await place(two.a, ask(f"runs-{number}", candidate(name)))
    known = ask("next", *EQUALS, lookups=("d2",), home_ms=HOME_MS)
    assert await two.a.foresee(known, depth_max=9) == (Waiting(1, 0), "n2")
    assert await place(two.a, known) == Waiting(1, 1)
    stranger = ask("stranger", *EQUALS)
    two.tick(HOME_MS - 1)
    assert await place(two.a, known) == Waiting(1, 1)
    assert await place(two.b, stranger) == Placed("n1", False, cached=False), "nobody else waits for it"
    await two.leave("stranger")
    assert "next" in two.seen().waiting
    await two.leave("runs-1")
    assert two.seen().held["next"].b == "n2"
    assert two.seen().held["next"].h == 1


async def test_it_waits_no_longer_than_that_and_not_at_all_where_it_may_not_or_another_is_idle(two: FleetBench) -> None:
    for number, name in enumerate(("n1", "n2", "n2")):
        await place(two.a, ask(f"runs-{number}", candidate(name)))
    known = ask("next", *EQUALS, lookups=("d2",), home_ms=HOME_MS)
    assert await place(two.a, known, waits=False) == Placed("n1", False, cached=False)
    await two.leave("next")
    assert await place(two.a, known) == Waiting(1, 1)
    two.tick(HOME_MS)
    assert await place(two.a, known) == Placed("n1", False, cached=False)
    await two.leave("next", "runs-0")
    other = ask("other", *EQUALS, lookups=("d1",), home_ms=HOME_MS)
    assert await place(two.a, other) == Placed("n1", False, cached=False), "n1 has nothing to do"


async def test_a_call_waits_a_little_for_its_node_and_then_goes_to_another(two: FleetBench) -> None:
    for number in range(2):
        await place(two.a, ask(f"full-{number}", candidate("n2", slots=2)))
    await place(two.a, ask("busy", candidate("n1", slots=2)))
    wish = replace(ask("one", *EQUALS, lookups=("d2",)), home_ms=300)
    assert type(await place(two.a, wish)) is Waiting
    two.tick(299)
    assert type(await place(two.a, wish)) is Waiting
    two.tick(1)
    assert await place(two.a, wish) == Placed("n1", False, cached=False)


async def test_who_waits_for_its_node_gets_its_slot(two: FleetBench) -> None:
    for number in range(2):
        await place(two.a, ask(f"full-{number}", candidate("n2", slots=2)))
    await place(two.a, ask("busy", candidate("n1", slots=2)))
    wish = replace(ask("one", *EQUALS, lookups=("d2",)), home_ms=300)
    assert type(await place(two.a, wish)) is Waiting
    assert type(await place(two.a, replace(wish, id="two"), waits=False)) is Placed, "who will not wait does not"
    await two.leave("full-0")
    assert two.seen().held["one"].b == "n2"
