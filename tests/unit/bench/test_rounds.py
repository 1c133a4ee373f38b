"""Rounds of contestants that do not answer, of a system that does not come to rest, and trials that do not end."""

import random
from types import SimpleNamespace
from typing import Any

from tests.bench.rounds import Arena
from tests.bench.run import bounded
from tests.bench.sample import Sample
from tests.bench.scenario import SCENARIOS, Contestant, Scenario

(JSON,) = [one for one in SCENARIOS if one.name == "json_c1"]
SAMPLE = Sample(seconds=1, units=1, requests=1, cpu_us=1, redis_us=0, foreign_share=0)


class Played(Arena):
    """Rounds of which some fail. `rests`: how often the system comes to rest before it does no more."""

    def __init__(self, fails: str = "", rests: int = 10**9) -> None:
        self._rests_left = rests
        self._fails = fails
        self.played: list[str] = []
        system: Any = SimpleNamespace(has=lambda _: True, rest=self._rest)
        super().__init__(system, random.Random(1), lambda _: None, rounds=3)

    async def _rest(self) -> None:
        self._rests_left -= 1
        if self._rests_left < 0:
            raise TimeoutError

    async def _round(self, scenario: Scenario, contestant: Contestant) -> Sample:
        self.played.append(contestant.name)
        if contestant.name == self._fails:
            raise ConnectionRefusedError("nobody listens")
        return SAMPLE


async def test_a_peer_that_does_not_answer_is_left_out_and_nothing_else_is() -> None:
    arena = Played(fails="nginx native")
    found = await arena.play(JSON)
    assert {name: len(samples) for name, samples in found.items()} == {
        "direct native": 3, "nginx native": 0, "gateway openai": 3,
    }  # fmt: skip
    assert (arena.played.count("nginx native"), arena.stuck) == (1, [])


async def test_a_gateway_that_does_not_answer_is_told() -> None:
    arena = Played(fails="gateway openai")
    await arena.play(JSON)
    assert arena.stuck == ["json_c1: gateway openai did not answer"]


async def test_nothing_is_measured_beside_calls_that_run_on_and_that_is_told() -> None:
    arena = Played(rests=4)
    found = await arena.play(JSON)
    assert len(arena.played) == sum(map(len, found.values())) == 4
    assert len(arena.stuck) == 1
    assert arena.stuck[0].startswith("json_c1: calls ran on before ")


async def test_a_trial_that_does_not_end_is_told_and_the_run_goes_on() -> None:
    async def endless() -> list[int]:
        raise TimeoutError

    async def good() -> list[int]:
        return [1]

    stuck: list[str] = []
    assert await bounded("crowds", endless(), stuck) == []
    assert await bounded("overload", good(), stuck) == [1]
    assert stuck == ["crowds: not done in time"]
