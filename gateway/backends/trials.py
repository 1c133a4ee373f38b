"""How an ejected backend comes back: by a real generation of one token. A node may be alive and its runner not."""

import asyncio
from contextlib import suppress
from zlib import crc32

from gateway.backends import lookup
from gateway.backends.breakers import Breakers
from gateway.backends.lookup import Lookup
from gateway.backends.seats import Seat, Seats
from gateway.backends.view import FleetView
from gateway.backends.watchdog import Watchdog
from gateway.core.fleet import Node
from gateway.core.placing import Ask, Full, Left, Placed, Waiting
from gateway.core.routing import UNKNOWN, WHOLE_NODE, Backend, Candidate, Model
from gateway.errors import LimitsUnavailable
from gateway.ports import Placement

TRIAL_S = 15.0
"""for one token of a model that is loaded, where calls do not have to be answered sooner"""
LOAD_S_MAX = 900.0
"""for one that has to be loaded first: a trial that gives up ends the load, and the next begins anew"""
WAIT_S_MAX = 15.0
POLL_S = 1.0
DEPTH_MAX = 1_000_000
"""a trial may wait however many calls do"""
TRIED_MAX = 3
"""models of a node that are tried in its place"""
NOBODY = "-"
"""whose call a trial is, in the line"""


class Trials:
    """`load_s`: how long a trial may take that has to load its model."""

    def __init__(
        self,
        *,
        placement: Placement,
        view: FleetView,
        seats: Seats,
        breakers: Breakers,
        watchdog: Watchdog,
        nodes: Lookup,
        load_s: float,
    ) -> None:
        self._placement = placement
        self._view = view
        self._seats = seats
        self._breakers = breakers
        self._watchdog = watchdog
        self._nodes = nodes
        self._load_s = load_s

    async def hold(self, name: str, model: str, trial_id: str) -> None:
        """Try a model of a node, or any if the whole node is ejected, once. The breaker hears of the outcome."""
        node, backend = self._view.node(name), self._view.backend(name)
        tried = _tried(backend, model, trial_id) if backend else None
        if node is None or backend is None or tried is None:
            return
        with suppress(LimitsUnavailable):
            if not await self._breakers.tell(name, model, "trial", self._view.now_ms):
                return  # another replica's
            if not await self._seated(backend, tried, trial_id):
                return
            backend, good = self._view.backend(name) or backend, False  # it may have waited for long
            try:
                good = await self._answers(node, backend, tried)
                if good:  # calls that wait for it need wait no more
                    self._seats.loaded(name, tried)
            finally:
                self._seats.leave(Left(id=trial_id))
            await self._breakers.tell(name, model, "trial_ok" if good else "trial_failed", self._view.now_ms)
            if not good and tried in backend.loaded and self._view.busy(name, tried) <= 1:
                await self._watchdog.recycle(name, tried)

    async def _seated(self, backend: Backend, model: str, trial_id: str) -> bool:
        """Whether the trial has a slot. It waits for one as calls do, for the node may be busy with other models."""
        placed: Placed | Waiting | Full | None = None
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                ask = _ask(trial_id, backend, model)
                while not isinstance(placed, Placed):
                    placed = await self._placement.place(ask, depth_max=DEPTH_MAX, waits=True)
                    if not isinstance(placed, Placed):
                        await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        finally:
            if not isinstance(placed, Placed):
                self._seats.leave(Left(id=trial_id))
        self._seats.take(_seat(trial_id, backend.name, model, placed))
        return True

    async def _answers(self, node: Node, backend: Backend, model: str) -> bool:
        loaded, copy = backend.loaded.get(model), backend.models.get(model)
        if copy is None:
            return False
        path, question = _question(copy, loaded.context_tokens if loaded else 0)
        try:
            await self._nodes.ask(node, path, question, seconds=min(TRIAL_S, self._load_s) if loaded else LOAD_S_MAX)
        except lookup.SILENCE:
            return False
        return True


def _tried(backend: Backend, model: str, trial_id: str) -> str | None:
    """The model itself; for a whole node one that is loaded, or else one of those that are asked for most. Not always
    the same one, for it may be what is broken."""
    if model != WHOLE_NODE:
        return model if model in backend.models else None
    able = [name for name, one in backend.models.items() if one.completes and name not in backend.ejected]
    able = able or [name for name in backend.models if name not in backend.ejected] or list(backend.models)

    def asked_for(name: str) -> tuple[bool, int, int, str]:
        rates = backend.rates.get(name, UNKNOWN)
        return name not in backend.loaded, -rates.calls, backend.models[name].size_bytes, name

    first = sorted(able, key=asked_for)[:TRIED_MAX]
    return first[crc32(trial_id.encode()) % len(first)] if first else None


def _question(model: Model, context_tokens: int) -> tuple[str, dict[str, object]]:
    options = {"num_ctx": context_tokens} if context_tokens else {}
    if not model.completes:
        return "/api/embed", {"model": model.spelling, "input": ["1"], "options": options}
    options["num_predict"] = 1
    return "/api/generate", {"model": model.spelling, "prompt": "1", "stream": False, "options": options}


def _ask(trial_id: str, backend: Backend, model: str) -> Ask:
    candidate = Candidate(
        backend=backend.name,
        slots=backend.slots,
        state="loaded" if model in backend.loaded else "cold",
        context_tokens=0,
        finish_ms=0,
        busy=backend.busy,
        equal=False,
        load_from=0,
    )
    return Ask(
        id=trial_id, key_id=NOBODY, weight=1, model=model, tokens=1, candidates=[candidate], lookups=[], records=[]
    )


def _seat(trial_id: str, backend: str, model: str, placed: Placed) -> Seat:
    return Seat(id=trial_id, backend=backend, model=model, key_id=NOBODY, loads=placed.loads, cached=False)
