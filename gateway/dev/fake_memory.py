"""The memory of a fake node: which models are loaded, the one that is being loaded, those that are wedged."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.dev.fake_hardware import Hardware
from gateway.dev.fake_ledger import Ledger
from gateway.dev.fake_models import Model
from gateway.dev.fake_runner import Fit, Job, Runner


class Memory:
    """As Ollama's scheduler has it: one load at a time, in the order of asking; loaded models serve meanwhile."""

    def __init__(self, hardware: Hardware, ledger: Ledger) -> None:
        self.hardware = hardware
        self.loading: str | None = None
        self._ledger = ledger
        self._wedged: set[str] = set()
        self._runners: dict[str, Runner] = {}
        self._loader = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def runners(self) -> list[Runner]:
        """What is loaded, the latest expiry first. A model being loaded is not among them."""
        present = [runner for runner in self._runners.values() if not runner.over]
        return sorted(present, key=lambda runner: runner.until, reverse=True)

    @property
    def wedged(self) -> frozenset[str]:
        """Models whose generations never answer."""
        return frozenset(self._wedged)

    @wedged.setter
    def wedged(self, names: frozenset[str]) -> None:
        self._wedged = set(names)
        self._touch()

    @asynccontextmanager
    async def seat(self, job: Job) -> AsyncIterator[Runner]:
        """The model in memory for as long as a call needs it, loaded first when it has to be."""
        runner = self._fitting(job)
        if runner is None:
            async with self._loader:
                runner = self._fitting(job) or await self._load(job.model, job.fit)
        runner.calls += 1
        runner.stay(job.keep_alive)
        try:
            yield runner
        finally:
            runner.calls -= 1
            runner.stay()
            self._tidy(runner)

    def put(self, model: Model, keep_alive: Any, fit: Fit) -> None:
        """Have it loaded at once, without a call."""
        runner = self._runners.setdefault(model.name, Runner(model, fit))
        runner.fit = fit
        runner.stay(keep_alive)

    def unload(self, model: Model) -> None:
        """It goes when nobody uses it any more, as with Ollama: at once, or after the last call that holds it."""
        self._ledger.unloads[model.name] += 1
        if runner := self._runners.get(model.name):
            runner.stay(0)
            self._tidy(runner)
        elif self.hardware.wedge_heals_by_unload:
            self.wedged -= {model.name}

    def kill(self, model: Model) -> None:
        """Its runner has died: the next call loads it again."""
        if runner := self._runners.get(model.name):
            self._drop(runner)

    async def fail(self, job: Job) -> None:
        """Try to load it, in vain."""
        async with self._loader:
            await self._wait_for_load(job.model)

    async def until_answers(self, model: Model) -> None:
        """Return when the model is not wedged."""
        await self._until(lambda: model.name not in self._wedged)

    def _fitting(self, job: Job) -> Runner | None:
        runner = self._runners.get(job.model.name)
        if runner and runner.over:
            self._drop(runner)
            return None
        return runner if runner and runner.fit == job.fit else None

    async def _load(self, model: Model, fit: Fit) -> Runner:
        """Load it, or load it otherwise; the caller has the turn to load. Cancelled: nothing is loaded."""
        if (loaded := self._runners.get(model.name)) and not self.hardware.load_ms:
            self._ledger.loads[model.name] += 1
            loaded.fit = fit
            return loaded
        if loaded:
            await self._until(lambda: not loaded.calls)
            self._drop(loaded)
        await self._make_room()
        await self._wait_for_load(model)
        self._runners[model.name] = Runner(model, fit)
        return self._runners[model.name]

    async def _make_room(self) -> None:
        most = self.hardware.memory_models
        while most is not None and len(self.runners) >= most:
            await self._until(lambda: any(not runner.calls for runner in self.runners))
            idle = [runner for runner in self.runners if not runner.calls]
            if idle:
                self._drop(idle[-1])

    async def _wait_for_load(self, model: Model) -> None:
        self._ledger.loads[model.name] += 1
        self._ledger.touch()
        self.loading = model.name
        try:
            if self.hardware.load_ms:
                await asyncio.sleep(self.hardware.load_s)
        except asyncio.CancelledError:
            self._ledger.loads_given_up[model.name] += 1
            raise
        finally:
            self.loading = None

    def _tidy(self, runner: Runner) -> None:
        if runner.over:
            self._drop(runner)
        self._touch()

    def _drop(self, runner: Runner) -> None:
        """Out of memory. What was wedged is well again with its next runner."""
        name = runner.model.name
        if self._runners.get(name) is runner:
            del self._runners[name]
            if self.hardware.wedge_heals_by_unload:
                self._wedged.discard(name)
        self._touch()

    async def _until(self, predicate: Callable[[], bool]) -> None:
        while not predicate():
            await self._changed.wait()

    def _touch(self) -> None:
        self._changed.set()
        self._changed.clear()
        self._ledger.touch()
