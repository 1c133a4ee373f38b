"""Reads what a target, Redis and the machine have used, before and after: the difference is a sample."""

import time
from collections import Counter
from typing import Any

from msgspec import Struct

from tests.bench import processor
from tests.bench.sample import Sample, percentile
from tests.bench.scenario import REDIS
from tests.bench.system import System
from tests.bench.tally import Tally

CHUNK_TIMES_MAX = 20_000
"""of a round, of which every nth is kept"""
PERCENTS = (50, 99)


class Usage(Struct, frozen=True):
    """At one moment: CPU time of the target, of Redis, of all of this run; what the two cores have done."""

    at_s: float
    target_ns: int
    redis_ns: int
    mine_ns: int
    machine: processor.Machine


class Meter:
    """`usage` before and after something, `sample` of the two."""

    def __init__(self, system: System) -> None:
        self._system = system

    def usage(self, pids: list[int]) -> Usage:
        """What is asked of first and last is what the target has used: looking takes milliseconds."""
        redis = self._system.pids(REDIS)
        return Usage(
            target_ns=processor.cpu_ns(pids),
            redis_ns=processor.cpu_ns(redis),
            at_s=time.monotonic(),
            mine_ns=processor.mine_ns(),
            machine=processor.machine(self._system.cores),
        )


def sample(before: Usage, after: Usage, **seen: Any) -> Sample:
    """`seen` are those fields of a sample that the load generator knows."""
    return Sample(
        cpu_us=(after.target_ns - before.target_ns) / 1e3,
        redis_us=(after.redis_ns - before.redis_ns) / 1e3,
        foreign_share=foreign_share(before, after),
        **{"seconds": after.at_s - before.at_s} | seen,
    )


def foreign_share(before: Usage, after: Usage) -> float:
    """Of the cores that this run uses: what others had of them, or the host of this machine took."""
    busy_ns = after.machine.busy_ns - before.machine.busy_ns - (after.mine_ns - before.mine_ns)
    stolen_ns = after.machine.stolen_ns - before.machine.stolen_ns
    return max(0.0, busy_ns + stolen_ns) / _there_ns(before, after)


def full_share(before: Usage, after: Usage) -> float:
    """Of the cores that this run uses: what anybody used of them, interrupts and all."""
    return 1 - min(1.0, (after.machine.idle_ns - before.machine.idle_ns) / _there_ns(before, after))


def core_share(before: Usage, after: Usage) -> float:
    """Of one core, what the target used; more than 1 for more than one process."""
    return (after.target_ns - before.target_ns) / 1e9 / (after.at_s - before.at_s)


def _there_ns(before: Usage, after: Usage) -> float:
    """Time that all of these cores had."""
    return after.machine.cores * (after.at_s - before.at_s) * 1e9


def seen(tally: Tally, *, stream: bool) -> dict[str, Any]:
    """What a load of our own has to say of its sample."""
    every = max(1, len(tally.chunk_ns) // CHUNK_TIMES_MAX)
    return {
        "units": tally.chunks if stream else tally.requests,
        "requests": tally.requests,
        "latencies_us": latencies_us(tally.whole_ns),
        "first_us": [taken / 1e3 for taken in tally.first_ns],
        "chunk_us": [taken / 1e3 for taken in tally.chunk_ns[::every]],
        "errors": Counter(tally.errors),
    }


def latencies_us(taken_ns: list[int]) -> dict[int, float]:
    """By percentile; none of no times."""
    return {percent: percentile(taken_ns, percent) / 1e3 for percent in PERCENTS if taken_ns}
