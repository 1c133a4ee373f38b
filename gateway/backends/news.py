"""What keeps this replica's view of the fleet fresh: twice a second it asks Redis what is new.

With the news comes what falls to it to do: of all replicas one probes a node, and one tries an ejected one.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from gateway.backends.prober import Prober
from gateway.backends.trials import Trials
from gateway.backends.view import FleetView
from gateway.core import breaker
from gateway.core.breaker import JITTER, TRIAL_MS
from gateway.core.placing import LISTING
from gateway.core.routing import Backend
from gateway.errors import LimitsUnavailable
from gateway.ports import Placement

ROUND_S = 0.5
RATES_ROUNDS = 10
"""every so many rounds the learned rates are read again"""
PROBE_MS = 3_000
LOADING_MS = 1_000
"""between further probes of a node that loads a model others wait for"""
DOWN_MS = 5_000
"""of one that does not answer, and up to JITTER more"""
LIST_MS = 30_000
"""between lists of a node's models: it walks its disk for that"""
PROBE_AGAIN_S = 0.2
"""least time between two probes of one node, however much it is suspected"""
TASKS_MAX = 2_048
PROBE, LOADING, LIST, TRIAL = "probe", "loading", "list", "trial"


class FleetNews:
    """`chance` gives a number in [0, 1), `new_id` the id of a trial, `clock_ms` is monotonic."""

    def __init__(
        self,
        *,
        placement: Placement,
        view: FleetView,
        prober: Prober,
        trials: Trials,
        chance: Callable[[], float],
        new_id: Callable[[], str],
        clock_ms: Callable[[], int],
    ) -> None:
        self._placement = placement
        self._view = view
        self._prober = prober
        self._trials = trials
        self._chance = chance
        self._new_id = new_id
        self._clock_ms = clock_ms
        self._tasks: set[asyncio.Task[None]] = set()
        self._probed_ms: dict[str, int] = {}
        self._rounds = 0

    async def run(self) -> None:
        """For ever. While Redis is away every replica probes for itself, and tells nobody."""
        while True:
            try:
                await self.read()
            except LimitsUnavailable:
                self._probe_alone()
            await asyncio.sleep(ROUND_S)

    async def read(self) -> None:
        """What is new, once; what falls to this replica begins. Raises `LimitsUnavailable`.

        Nodes that operators have just added have their turns at once, not in the next round.
        """
        if await self._read():
            await self._read()

    async def _read(self) -> bool:
        """Whether operators say something new."""
        rates = self._rounds % RATES_ROUNDS == 0
        self._rounds += 1
        turns = self._turns()
        news = await self._placement.sync(self._view.version, self._view.revision, rates=rates, turns=turns)
        self._view.apply(news)
        if self._view.forgotten:
            await self._placement.saw(self._view.found())
        if listed := [name.partition(":")[2] for name in news.told if name.startswith(f"{LISTING}:")]:
            self._start(self._prober.heard(listed))
        for turn in news.turns:
            self._do(turn)
        return news.registry is not None

    def suspect(self, name: str) -> None:
        """A call did not find its model there: they are listed now. What calls cannot reach is for breakers: were
        probes to follow each failure, a node that comes and goes would be taken for away, and be back at once."""
        now = self._clock_ms()
        if now - self._probed_ms.get(name, 0) >= PROBE_AGAIN_S * 1000:
            self._probed_ms[name] = now
            self._start(self._prober.probe(name, afresh=True))

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _turns(self) -> dict[str, int]:
        """What is to be done for each node, and how many ms later again."""
        turns = {}
        for backend in self._view.snapshot():
            turns[f"{PROBE} {backend.name}"] = self._interval_ms(backend)
            turns[f"{LIST} {backend.name}"] = self._jittered(LIST_MS)
            if backend.loading:
                turns[f"{LOADING} {backend.name}"] = LOADING_MS
            usable = backend.healthy and not backend.draining and not backend.refused
            for model, one in self._view.breakers().get(backend.name, {}).items() if usable else ():
                if breaker.trial_due(one, self._view.now_ms):
                    turns[f"{TRIAL} {backend.name} {model}"] = self._jittered(TRIAL_MS)
        return turns

    def _interval_ms(self, backend: Backend) -> int:
        if not backend.healthy:
            return self._jittered(DOWN_MS)
        return int(PROBE_MS * (1 + JITTER * (2 * self._chance() - 1)))

    def _jittered(self, ms: int) -> int:
        return int(ms * (1 + JITTER * self._chance()))

    def _do(self, turn: str) -> None:
        what, _, which = turn.partition(" ")
        if what == TRIAL:
            name, _, model = which.partition(" ")
            self._start(self._trials.hold(name, model, self._new_id()))
        else:
            self._probed_ms[which] = self._clock_ms()
            self._start(self._prober.probe(which, afresh=what == LIST))

    def _probe_alone(self) -> None:
        now = self._clock_ms()
        for backend in self._view.snapshot():
            if now - self._probed_ms.get(backend.name, 0) >= PROBE_MS:
                self._probed_ms[backend.name] = now
                self._start(self._prober.probe(backend.name, afresh=False))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= TASKS_MAX:
            work.close()
            return
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None]) -> None:
        with suppress(LimitsUnavailable):
            await work
