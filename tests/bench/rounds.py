"""Rounds of a scenario over its contestants, in random order, each measured in CPU time of /proc."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from tests.bench import meter, processor, request, wrk
from tests.bench.load import Address, ClosedLoop
from tests.bench.meter import Meter
from tests.bench.sample import Sample
from tests.bench.scenario import DIRECT, GATEWAY, LITELLM, QUICK_MODEL, Contestant, Scenario
from tests.bench.system import System

SPREAD_MS_MAX = 1_000.0
"""over so long streams begin, so that they do not end together"""
OPEN_S = 20.0
PEER_TIMES = 8
REST_S, REST_SHARE_MAX = 0.25, 0.3
"""the peer is done when it has used less of a core than that share, for so long"""


class Arena:
    """Where contestants run. `seconds` 0: as long as each scenario says."""

    def __init__(
        self, system: System, chance: random.Random, say: Callable[[str], None], *, rounds: int, seconds: float = 0
    ) -> None:
        self._system = system
        self._meter = Meter(system)
        self._chance = chance
        self._say = say
        self._rounds = rounds
        self._seconds = seconds
        self.stuck: list[str] = []
        """what of ours did not answer, or did not come to rest"""

    async def play(self, scenario: Scenario) -> dict[str, list[Sample]]:
        """The samples of each contestant, in order; none of one that does not answer.

        Where the system does not come to rest, what is measured next would be measured beside it: so nothing is.
        """
        present = [one for one in scenario.contestants if self._system.has(one.target)]
        found: dict[str, list[Sample]] = {one.name: [] for one in present}
        for number in range(self._rounds):
            for contestant in self._chance.sample(present, len(present)):
                if not await self._rested(scenario, contestant):
                    return found
                try:
                    found[contestant.name].append(await self._round(scenario, contestant))
                except (OSError, ValueError) as error:
                    self._missed(scenario, contestant, error)
                    present.remove(contestant)
                else:
                    self._say(_line(scenario, number, contestant, found[contestant.name][-1]))
        return found

    async def _rested(self, scenario: Scenario, contestant: Contestant) -> bool:
        try:
            await self._system.rest()
        except TimeoutError:
            self.stuck.append(f"{scenario.name}: calls ran on before {contestant.name}")
            return False
        return True

    def _missed(self, scenario: Scenario, contestant: Contestant, error: Exception) -> None:
        """A peer is left out; of ours it is a failure."""
        self._say(f"{scenario.name}: {contestant.name} is left out, it did not answer: {error or 'in time'}")
        if contestant.target == GATEWAY:
            self.stuck.append(f"{scenario.name}: {contestant.name} did not answer")

    async def _round(self, scenario: Scenario, contestant: Contestant) -> Sample:
        gc.collect()
        with self._system.awake(contestant.target):
            by = self._by_wrk if wrk.PROGRAM and not scenario.stream else self._by_loop
            sample = await by(scenario, contestant)
            if contestant.target == LITELLM:
                await self._rests()
            return sample

    async def _rests(self) -> None:
        """The peer is not stopped in the midst of what it was asked, or it would do that in its next round."""
        pids, used_ns = self._system.pids(LITELLM), 0
        with suppress(TimeoutError):
            async with asyncio.timeout(OPEN_S):
                while (now_ns := processor.cpu_ns(pids)) - used_ns > REST_S * REST_SHARE_MAX * 1e9:
                    used_ns = now_ns
                    await asyncio.sleep(REST_S)

    def _seconds_of(self, scenario: Scenario, contestant: Contestant) -> float:
        """The peer has longer: what is under way when a round ends is a large part of the little that it does."""
        return (self._seconds or scenario.seconds) * (PEER_TIMES if contestant.target == LITELLM else 1)

    async def _by_wrk(self, scenario: Scenario, contestant: Contestant) -> Sample:
        file = self._system.directory / f"{scenario.name}-{contestant.name.replace(' ', '-')}.lua"
        key = self._system.key_for(contestant.target)
        file.write_text(wrk.script(contestant.dialect.path, key, _body(scenario, contestant)))
        address, connections = self._address(scenario, contestant), scenario.connections_of(contestant)
        pids = self._system.pids(contestant.target)
        before = self._meter.usage(pids)
        told = await wrk.run(address, file, connections=connections, seconds=self._seconds_of(scenario, contestant))
        after = self._meter.usage(pids)
        if contestant.target == GATEWAY:
            self._system.books.add(told.requests - told.statuses, connections)
        return meter.sample(
            before,
            after,
            seconds=told.duration_us / 1e6,
            units=told.requests,
            requests=told.requests,
            latencies_us={50: float(told.p50_us), 99: float(told.p99_us)},
            errors=+Counter({"status": told.statuses, "broken": told.broken}),
        )

    async def _by_loop(self, scenario: Scenario, contestant: Contestant) -> Sample:
        key = self._system.key_for(contestant.target)
        content = request.post(contestant.dialect.path, _body(scenario, contestant), key)
        pids = self._system.pids(contestant.target)
        async with self._load(scenario, contestant, content) as load:
            load.tally.clear()
            before = self._meter.usage(pids)
            await asyncio.sleep(self._seconds_of(scenario, contestant))
            after = self._meter.usage(pids)
            tally = load.tally.copy()
        return meter.sample(before, after, **meter.seen(tally, stream=scenario.stream))

    @asynccontextmanager
    async def _load(self, scenario: Scenario, contestant: Contestant, content: bytes) -> AsyncIterator[ClosedLoop]:
        """A load whose clients all have begun to be answered. Raises TimeoutError for a target that does not work."""
        address, connections = self._address(scenario, contestant), scenario.connections_of(contestant)
        spread_ms = min(SPREAD_MS_MAX, scenario.stream_ms)
        load = ClosedLoop(address, content, connections, timed=scenario.timed, spread_ms=spread_ms)
        gc.disable()
        try:
            await load.start()
            await load.all_answered(OPEN_S)
            yield load
        finally:
            load.stop()
            gc.enable()
            if contestant.target == GATEWAY:
                self._system.books.add(load.answered, load.abandoned)

    def _address(self, scenario: Scenario, contestant: Contestant) -> Address:
        return self._system.address_of(contestant.target, quick=scenario.model == QUICK_MODEL)


def _body(scenario: Scenario, contestant: Contestant) -> bytes:
    return request.body(
        contestant.dialect,
        scenario.model,
        prompt_bytes=scenario.prompt_bytes,
        stream=scenario.stream,
        inputs=scenario.inputs,
    )


def _line(scenario: Scenario, number: int, contestant: Contestant, one: Sample) -> str:
    cpu = f"{one.cpu_us / max(1, one.units):8.2f} us" if contestant.target != DIRECT else " " * 11
    return (
        f"{scenario.name:14} round {number} {contestant.name:18} {one.units / one.seconds:12,.0f}/s {cpu}"
        f"  others {one.foreign_share:.0%}"
    )
