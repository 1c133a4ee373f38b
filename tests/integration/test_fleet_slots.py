"""Slots of nodes: as many as there are, for as long as somebody is there, and what replicas are told of them."""

from gateway.core.breaker import Breaker
from gateway.core.placing import Full, Left, Placed, Waiting
from tests.fleets import OTHER, FleetBench, M, ask, candidate, place

SLOT_MS, CLAIM_MS, PATIENCE_MS = 15_000, 5_000, 4_000
HERE = Placed("n1", loads=False, cached=False)


async def test_the_first_candidate_with_room_gets_the_call_and_the_next_when_it_is_full(fleet: FleetBench) -> None:
    await fleet.register(n1=1, n2=1)
    both = candidate("n2"), candidate("n1")
    assert [await place(one, ask(str(number), *both)) for number, one in enumerate((fleet.a, fleet.b, fleet.c))] == [
        Placed("n2", loads=False, cached=False), HERE, Waiting(1, 1),
    ]  # fmt: skip


async def test_a_node_that_operators_have_not_registered_has_the_slots_the_replica_says(fleet: FleetBench) -> None:
    wish = [ask(str(number), candidate("n1", slots=2)) for number in range(3)]
    assert [type(await place(fleet.a, one)) for one in wish] == [Placed, Placed, Waiting]


async def test_one_placement_is_one_round_trip(fleet: FleetBench) -> None:
    await fleet.functions.load()
    await fleet.register(n1=1)
    for number in range(3):
        before = fleet.calls
        await place(fleet.a, ask(str(number)))
        assert fleet.calls == before + 1


async def test_the_same_call_gets_the_same_slot_however_often_it_asks(fleet: FleetBench) -> None:
    await fleet.register(n1=1, n2=1)
    for _ in range(3):
        assert await place(fleet.a, ask("one", candidate("n1"), candidate("n2"))) == HERE
    assert fleet.seen().busy == {"n1": 1, f"n1 {M}": 1}


async def test_who_does_not_wait_leaves_no_trace(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    before = fleet.everything()
    assert await place(fleet.b, ask("two"), waits=False) == Waiting(1, 0)
    assert fleet.everything() == before


async def test_a_line_is_as_long_as_it_may_be_for_each_model(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    for name in ("two", "three"):
        assert type(await place(fleet.a, ask(name), depth_max=2)) is Waiting
    assert await place(fleet.a, ask("four", key="k2"), depth_max=2) == Full(2)
    assert type(await place(fleet.a, ask("two"), depth_max=2)) is Waiting, "it has its place already"
    assert type(await place(fleet.a, ask("five", model=OTHER), depth_max=2)) is Waiting


async def test_a_slot_goes_at_once_to_who_waits_and_its_replica_is_told(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    with fleet.redis.pubsub() as pubsub:
        pubsub.subscribe("{fleet}:woken:b")
        assert pubsub.get_message(timeout=5)
        await place(fleet.a, ask("one"))
        await place(fleet.b, ask("two"))
        await fleet.leave("one")
        message = pubsub.get_message(timeout=5)
        assert message
        assert message["data"] == "two n1 0 0"
    assert await place(fleet.b, ask("two")) == HERE


async def test_leaving_twice_or_without_a_slot_frees_nothing(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    left = [Left(id="one"), Left(id="one"), Left(id="nobody")]
    freed = await fleet.a.leave(left)
    assert freed[0]
    assert (freed[0].backend, freed[0].model, freed[0].now_ms) == ("n1", M, fleet.now_ms)
    assert (freed[0].node, freed[0].pair, freed[1:]) == (Breaker(), Breaker(), [None, None])
    assert fleet.left_over() == {}


async def test_a_place_in_the_line_can_be_left(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    for name in ("one", "two", "three"):
        await place(fleet.a, ask(name))
    assert await fleet.a.leave([Left(id="two")]) == [None]
    await fleet.leave("one")
    assert set(fleet.seen().held) == {"three"}


async def test_a_slot_ends_when_nobody_has_renewed_it_and_not_before(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    fleet.tick(SLOT_MS - 1)
    assert await fleet.a.hold([("one", "n1", M, "k1", False)]) == 0
    fleet.tick(SLOT_MS - 1)
    assert await place(fleet.b, ask("two")) == Waiting(1, 1)
    fleet.tick(1)
    assert await place(fleet.b, ask("two")) == HERE


async def test_a_dead_replicas_waiting_calls_are_passed_over(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    await place(fleet.b, ask("dead", key="k0"))
    fleet.tick(1)
    await place(fleet.c, ask("living"))
    fleet.tick(PATIENCE_MS - 1)
    await fleet.leave("one")
    assert set(fleet.seen().held) == {"living"}
    assert set(fleet.seen().waiting) == set()


async def test_a_slot_that_a_dead_replica_was_granted_is_free_again_soon(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    await place(fleet.b, ask("dead"))
    await place(fleet.c, ask("living", key="k2"))
    await fleet.leave("one")
    assert set(fleet.seen().held) == {"dead"}
    fleet.tick(CLAIM_MS - 1)
    assert type(await place(fleet.c, ask("living", key="k2"))) is Waiting
    fleet.tick(1)
    assert await place(fleet.c, ask("living", key="k2")) == HERE


async def test_a_slot_that_was_claimed_lasts_as_any(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    await place(fleet.b, ask("two"))
    await fleet.leave("one")
    await place(fleet.b, ask("two"))
    fleet.tick(SLOT_MS - 1)
    assert type(await place(fleet.c, ask("three"))) is Waiting


async def test_a_call_that_runs_is_counted_whatever_redis_has_forgotten(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await place(fleet.a, ask("one"))
    fleet.redis.flushall()
    fleet.tick(0)
    assert await fleet.a.hold([("one", "n1", M, "k1", False)]) == 1
    assert await fleet.a.hold([("one", "n1", M, "k1", False)]) == 0
    assert type(await place(fleet.b, ask("two"))) is Waiting
    await fleet.leave("one")
    assert set(fleet.seen().held) == {"two"}


async def test_more_slots_are_given_out_at_once_and_fewer_take_none_away(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    names = ["one", "two", "three", "four"]
    for name in names:
        await place(fleet.a, ask(name))
    await fleet.register(n1=3)
    assert set(fleet.seen().held) == set(names[:3])
    await fleet.register(n1=1)
    await fleet.leave("one", "two")
    assert set(fleet.seen().held) == {"three"}
    await fleet.leave("three")
    assert set(fleet.seen().held) == {"four"}


async def test_a_drained_node_gets_no_new_calls_whatever_replicas_believe(fleet: FleetBench) -> None:
    await fleet.register(n1=2)
    await place(fleet.a, ask("one"))
    await fleet.register(n1=0)
    assert await place(fleet.a, ask("two")) == Waiting(1, 1)
    assert set(fleet.seen().held) == {"one"}, "who runs there is left alone"
    await fleet.register(n1=2)
    assert set(fleet.seen().held) == {"one", "two"}


async def test_the_slots_of_the_dead_are_given_out_by_whatever_comes_next(fleet: FleetBench) -> None:
    async def leaves() -> None:
        await fleet.leave("nobody")

    async def holds() -> None:
        await fleet.a.hold([])

    async def syncs() -> None:
        await fleet.a.sync(0, 0, rates=False, turns={})

    async def places() -> None:
        await place(fleet.a, ask("other", candidate("n2")))

    for comes in (leaves, holds, syncs, places):
        fleet.redis.flushall()
        fleet.tick(0)
        await fleet.register(n1=1, n2=1)
        await place(fleet.a, ask("dead"))
        fleet.tick(SLOT_MS - 1)
        await place(fleet.b, ask("living"))
        fleet.tick(1)
        await comes()
        assert "living" in fleet.seen().held, comes.__name__
