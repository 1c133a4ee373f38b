"""One run of the benchmark: rounds, trials, gates; then what it came to."""

import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct, field

from gateway.dev.places import CannotStart
from tests.bench import crowds, gate, gates, litellm, nginx, processor, profile, sample, scaling, scenario, system, wrk
from tests.bench.crowds import Crowds
from tests.bench.finding import Finding
from tests.bench.gate import Gate
from tests.bench.gates import Gates, Subject
from tests.bench.overload import Overload
from tests.bench.processor import Cores
from tests.bench.rounds import Arena
from tests.bench.sample import Figures
from tests.bench.scaling import Scaling
from tests.bench.scenario import GATEWAY, LITELLM, Scenario
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
T = TypeVar("T")


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
            await _add_peer(peer, parts, report, say)
        parts.pause_worker()
        async with profile.recorded(parts.replica.child.pid, plan.profile):
            stuck = await _rounds(plan, parts, report, say)
        for name in plan.trials:
            say(f"{name}: {TRIALS[name]}")
            report.findings += await bounded(name, _trial(name, parts, say), stuck)
        if plan.gates:
            report.gates += await Gates(_subject(parts)).all()
        say("the worker makes rows of what has gathered")
        report.findings += await bounded("drain", scaling.drained(parts), stuck)
        report.gates += await bounded("accounting", _accounting(parts), stuck)
        report.gates += [gate.no_errors(report.results, report.findings), gate.at_rest(stuck)]
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


async def _add_peer(program: Path, parts: system.System, report: Report, say: Say) -> None:
    """The run goes on without one that does not come up."""
    try:
        version = await litellm.version()
        await parts.add_peer(program)
        report.versions[LITELLM] = version
    except (CannotStart, TimeoutError) as error:
        say(f"{LITELLM} did not come up and is not measured: {error or 'not in time'}")


async def _rounds(plan: Plan, parts: system.System, report: Report, say: Say) -> list[str]:
    """What did not answer, or come to rest."""
    arena = Arena(parts, random.Random(plan.seed), say, rounds=plan.rounds, seconds=plan.seconds)
    for one in plan.scenarios:
        samples = await arena.play(one)
        report.results[one.name] = {name: sample.figures(found) for name, found in samples.items() if found}
    return arena.stuck


async def bounded(name: str, doing: Awaitable[list[T]], stuck: list[str]) -> list[T]:
    """What it finds; nothing, if it does not come to its end, which `stuck` hears of: then the rest is done all the
    same."""
    try:
        return await doing
    except TimeoutError:
        stuck.append(f"{name}: not done in time")
        return []


async def _accounting(parts: system.System) -> list[Gate]:
    return [gate.accounting(parts.books, await parts.rows())]


def _subject(parts: system.System) -> Subject:
    pids = parts.pids(GATEWAY)
    return Subject(
        node=parts.nodes.slow,
        gateway=parts.replica.address,
        key=parts.key,
        books=parts.books,
        cpu_ns=lambda: processor.cpu_ns(pids),
        rest=parts.rest,
    )


async def _trial(name: str, parts: system.System, say: Say) -> list[Finding]:
    await parts.rest()
    if name == "crowds":
        return await Crowds(parts).all()
    return await (Overload(parts).all() if name == "overload" else Scaling(parts, say).all())
