"""Drives the rules by plain chance, many steps a second: for the mutants, which have to be found soon."""

from collections import Counter
from random import Random

from tests.fakes import Bench
from tests.integration.rules import WEIGHTS, Rules

STEPS_EACH = 50
LAST_STEPS = 10


def drive(bench: Bench, seed: str, episodes: int) -> Counter[str]:
    """What was met. Raises what a step raised, with the steps before it."""
    met: Counter[str] = Counter()
    for episode in range(episodes):
        chance = Random(f"{seed}:{episode}")
        both, history = Rules(bench, chance), []
        try:
            for what in chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS_EACH):
                history.append(f"{what} at {both.model.now_us}")
                getattr(both, what)()
                both.check()
        except Exception as error:
            error.add_note(f"episode {episode}, {described(both)}:\n" + "\n".join(history[-LAST_STEPS:]))
            raise
        met += both.met
    return met


def described(rules: Rules) -> str:
    """How the owners are limited."""
    return ", ".join(
        f"{one.whose} {one.limits} metered={one.metered} shadow={one.shadow}" for one in rules.model.owners
    )
