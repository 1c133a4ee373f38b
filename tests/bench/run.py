"""One run of the benchmark: rounds, trials, gates; then what it came to."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from tests.bench import crowds, gates, litellm, nginx, processor, profile, sample, scaling, scenario, system, wrk
from tests.bench.crowds import Crowds
from tests.bench.finding import Finding
from tests.bench.gates import Gate, Gates
from tests.bench.overload import Overload
from tests.bench.processor import Cores
from tests.bench.rounds import Arena
from tests.bench.sample import Figures
from tests.bench.scaling import Scaling
from tests.bench.scenario import LITELLM, Scenario
from tests.bench.verdict import Verdict, verdicts
from tests.bench.versions import versions

MODELS = sorted({*scenario.MODELS, *gates.MODELS, *crowds.MODELS})
TRIALS = {
    "crowds": "idle streams, stalled readers, all leaving at once",
    "overload": "ten times what can be served",
    "scaling": "two replicas, Redis alone",
}
"""what takes long and is not done in rounds"""
Say = Callable[[str], None]


class Plan(Struct, frozen=True, kw_only=True):
    """What to do. `trials` are some of TRIALS; `seconds` 0: as long as scenarios say."""

    scenarios: list[Scenario]
    seed: int
    rounds: int
    seconds: float = 0
    trials: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    profile: Path | None = None
    """where to write what the gateway does while scenarios run"""
    gates: bool = True


class Report(Struct, kw_only=True):
    """All that a run has found."""

    at: str
    seed: int
    seconds: float = 0
    versions: dict[str, str] = {}
    results: dict[str, dict[str, Figures]] = {}
    findings: list[Finding] = []
    gates: list[Gate] = []
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return all(gate.good for gate in self.gates)


async def run(plan: Plan, say: Say) -> Report:
    began_s = time.monotonic()
    report = Report(at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), seed=plan.seed)
    cores = processor.cores()
    for line in _missing(cores):
        say(line)
    peer = await litellm.installed() if LITELLM in plan.peers else None
    async with system.running(cores, MODELS, scenario.QUICK_MODEL) as parts:
        report.versions = await versions(parts.valkey.tcp_url)
        if peer:
            await parts.add_peer(peer)
            report.versions[LITELLM] = await litellm.version()
        parts.pause_worker()
        async with profile.recorded(parts.replica.child.pid, plan.profile):
            await _rounds(plan, parts, report, say)
        for name in plan.trials:
            report.findings += await _trial(name, parts, say)
        checks = Gates(parts)
        if plan.gates:
            report.gates += await checks.all()
        say("the worker makes rows of what has gathered")
        report.findings += await scaling.drained(parts)
        report.gates += [gates.no_errors(report.results, report.findings), await checks.accounting()]
    report.verdicts = verdicts(report.results, report.findings)
    report.seconds = time.monotonic() - began_s
    return report


def _missing(cores: Cores) -> list[str]:
    """What the figures of this machine are without."""
    return [
        *(["one core alone: CPU time is as good as ever, times and rates are not"] if cores.shared else []),
        *([] if nginx.PROGRAM else ["nginx is not installed: there is nothing to compare with"]),
        *([] if wrk.PROGRAM else ["wrk is not installed: a slower client sends the JSON requests"]),
    ]


async def _rounds(plan: Plan, parts: system.System, report: Report, say: Say) -> None:
    arena = Arena(parts, random.Random(plan.seed), say, rounds=plan.rounds, seconds=plan.seconds)
    for one in plan.scenarios:
        samples = await arena.play(one)
        report.results[one.name] = {name: sample.figures(found) for name, found in samples.items()}


async def _trial(name: str, parts: system.System, say: Say) -> list[Finding]:
    say(f"{name}: {TRIALS[name]}")
    if name == "crowds":
        return await Crowds(parts).all()
    return await (Overload(parts).all() if name == "overload" else Scaling(parts, say).all())
