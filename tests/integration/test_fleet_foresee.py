"""What is foreseen is what happens, and foreseeing changes nothing."""

from random import Random

from gateway.core.placing import Full, Placed, Waiting
from gateway.core.routing import Candidate
from tests.fleets import FleetBench, ask, candidate, place
from tests.integration.fleet_rules import DEPTH_MAX, WEIGHTS, Rules

STATES = 1_000
STEPS_BETWEEN = 2
STEPS_EACH = 40


async def test_a_foreseen_call_is_placed_as_foreseen_and_nothing_changes(fleet: FleetBench, seed: str) -> None:
    chance, met, overtaken = Random(seed), set(), 0
    rules = Rules(fleet, chance)
    steps = {name: weight for name, weight in WEIGHTS.items() if name != "wait_long"}
    for number in range(STATES):
        if number % STEPS_EACH == 0:
            rules = Rules(fleet, chance)
            await rules.begin()
        for what in chance.choices(list(steps), list(steps.values()), k=STEPS_BETWEEN):
            await getattr(rules, what)(fleet.seen())
        await fleet.a.sync(0, 0, rates=False, turns={})  # who is dead is dead to both
        wish = rules.wish(
            f"new-{number}", chance.choice(["k1", "k2", "new"]), chance.choice(["m1:latest", "m2:latest"])
        )
        before, held = fleet.everything(), set(fleet.seen().held)
        foreseen, affinity = await fleet.c.foresee(wish, depth_max=DEPTH_MAX)
        assert fleet.everything() == before
        said = await place(fleet.b, wish, depth_max=DEPTH_MAX)
        if set(fleet.seen().held) - held - {wish.id}:
            overtaken += 1  # somebody could have the slot who had not asked since it was worth a load
            await fleet.leave(wish.id)
            continue
        met.add(type(said))
        if isinstance(said, Waiting):
            assert isinstance(foreseen, Waiting)
            assert (foreseen.position, foreseen.depth + 1) == (said.position, said.depth), "it is not in the line yet"
        else:
            assert foreseen == said
        if isinstance(said, Placed):
            assert said.cached == (said.backend == affinity)
        await fleet.leave(wish.id)
    assert met >= {Placed, Waiting}
    assert overtaken <= STATES / 20


async def test_who_has_the_prompt_in_mind_is_told_even_where_it_decides_nothing(fleet: FleetBench) -> None:
    await fleet.register(n1=1, n2=1)
    await place(fleet.a, ask("one", candidate("n2"), records=("d",)))
    where: list[Candidate] = [candidate("n1"), candidate("n2")]
    assert await fleet.a.foresee(ask("two", *where, lookups=("d",)), depth_max=1) == (Placed("n1", False, False), "n2")
    await place(fleet.a, ask("two", *where))
    assert await fleet.a.foresee(ask("three", *where, lookups=("d",)), depth_max=1) == (Waiting(1, 0), "n2")
    await place(fleet.a, ask("three", *where))
    assert await fleet.a.foresee(ask("four", *where, lookups=("d",)), depth_max=1) == (Full(1), "n2")
    assert await fleet.a.foresee(ask("five", *where), depth_max=1) == (Full(1), "")
