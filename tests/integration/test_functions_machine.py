"""Hypothesis takes the Redis functions and the model of exact fractions through the same steps, in lockstep.

The rules and their boundaries are in rules.py, what is compared in lockstep.py and views.py, the model in model.py.
LONG=1 takes 50,000 steps.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest
from hypothesis import seed as hypothesis_seed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.dev.valkey import EmbeddedValkey
from tests.fakes import Bench
from tests.integration.conftest import keep_order
from tests.integration.rules import WEIGHTS, Rules

STEPS_EACH = 50
STEPS = 50_000 if os.environ.get("LONG") else 2_000
EXAMPLES = STEPS * 5 // 4 // STEPS_EACH
"""more than the steps need, for some end early"""
AOF_WAIT_MS = 5_000


class Machine(RuleBasedStateMachine):
    """One key and its team, in a Redis of their own."""

    def __init__(self, bench: Bench, restart: Callable[[], None], met: Counter[str]) -> None:
        super().__init__()
        self._met = met
        self.rules = Rules(bench, Random(0), restart)

    def take(self, name: str, chance: Random) -> None:
        self.rules.chance = chance
        self._met["steps"] += 1
        getattr(self.rules, name)()

    @invariant()
    def all_agree(self) -> None:
        self.rules.check()

    def teardown(self) -> None:
        self._met.update(self.rules.met)


def step(name: str) -> Any:
    @rule(chance=st.randoms(use_true_random=False))
    def taken(self: Machine, chance: Random) -> None:
        self.take(name, chance)

    return taken


AllRules: Any = type(
    "AllRules", (Machine,), {f"{name}_{i}": step(name) for name, weight in WEIGHTS.items() for i in range(weight)}
)


class Restarts:
    """A server of its own, which is killed and started again with everything it was told."""

    def __init__(self, directory: Path) -> None:
        self._valkey = EmbeddedValkey(directory)
        asyncio.run(self._valkey.start())
        self.bench = Bench(self._valkey.url)
        keep_order(self.bench)

    def restart(self) -> None:
        self.bench.redis.execute_command("WAITAOF", 1, 0, AOF_WAIT_MS)  # else up to a second is lost, as it says
        asyncio.run(self._valkey.kill())
        asyncio.run(self._valkey.start())
        keep_order(self.bench)

    def stop(self) -> None:
        self.bench.close()
        asyncio.run(self._valkey.stop())


@pytest.fixture
def server(short_dir: Path) -> Iterator[Restarts]:
    one = Restarts(short_dir)
    yield one
    one.stop()


@pytest.mark.timeout(3_600 if STEPS > 2_000 else 300)
def test_the_functions_do_what_the_model_does(server: Restarts, seed: str) -> None:
    met, began = Counter[str](), time.monotonic()

    @hypothesis_seed(crc32(seed.encode()))
    class Seeded(AllRules):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(server.bench, server.restart, met)

    run_state_machine_as_test(
        Seeded,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS_EACH, deadline=None, database=None),
    )
    print(f"\n{met['steps']:,} steps in {time.monotonic() - began:.0f} s: {dict(sorted(met.items()))}")
    assert met["steps"] >= STEPS
