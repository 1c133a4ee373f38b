"""A loaded model that has stopped to answer, while its node says that all is well, is unloaded once.

Ollama can lose a slot for good when a client leaves at the wrong moment; the model then never answers again, and only
unloading it helps (reference: ollama-http section 5.8).
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from gateway.backends import lookup
from gateway.backends.breakers import Breakers
from gateway.backends.lookup import Lookup
from gateway.backends.seats import Seat, Seats
from gateway.backends.sending import Sending
from gateway.backends.view import FleetView
from gateway.core.call import Call
from gateway.core.routing import UNKNOWN
from gateway.errors import LimitsUnavailable
from gateway.ports import FleetObserver

LOOK_S = 1.0
SLOWER = 5.0
"""times as long as the node needs for such a prompt, a call may be silent"""
UNLOAD_S_MAX = 30.0


class _Watched:
    """A call that waits for its first byte, while it is entered."""

    __slots__ = ("_all", "call", "seat", "sending", "since_ms")

    def __init__(
        self, everyone: dict[str, "_Watched"], seat: Seat, sending: Sending, call: Call, since_ms: int
    ) -> None:
        self._all = everyone
        self.seat = seat
        self.sending = sending
        self.call = call
        self.since_ms = since_ms

    def __enter__(self) -> None:
        self._all[self.seat.id] = self

    def __exit__(self, *_: object) -> None:
        del self._all[self.seat.id]


class Watchdog:
    """`clock_ms` is monotonic; `silent_s`: less silence than this is never too long."""

    def __init__(
        self,
        *,
        view: FleetView,
        seats: Seats,
        breakers: Breakers,
        nodes: Lookup,
        observer: FleetObserver,
        clock_ms: Callable[[], int],
        silent_s: float,
    ) -> None:
        self._view = view
        self._seats = seats
        self._breakers = breakers
        self._nodes = nodes
        self._observer = observer
        self._clock_ms = clock_ms
        self._silent_ms = silent_s * 1000
        self._watched: dict[str, _Watched] = {}

    def watching(self, seat: Seat, sending: Sending, call: Call) -> AbstractContextManager[None]:
        """While it is entered, the first byte of a call to a loaded model is awaited."""
        return _Watched(self._watched, seat, sending, call, self._clock_ms())

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            silent = {(one.seat.backend, one.seat.model) for one in self._watched.values() if self._is_silent(one)}
            await asyncio.gather(*(self._recycle_under(*pair) for pair in silent if self._is_alone(*pair)))

    async def recycle(self, backend: str, model: str) -> bool:
        """Unload a silent model, unless that was done since it served last. Whether it was unloaded."""
        node, seen = self._view.node(backend), self._view.backend(backend)
        if node is None or seen is None or model not in seen.models:
            return False
        try:
            if not await self._breakers.tell(backend, model, "recycled", self._view.now_ms):
                return False
        except LimitsUnavailable:
            return False
        self._observer.recycled(backend, model)
        question = {"model": seen.models[model].spelling, "keep_alive": 0}
        with suppress(*lookup.SILENCE):
            await self._nodes.ask(node, "/api/generate", question, seconds=UNLOAD_S_MAX)
        return True

    def _is_silent(self, watched: _Watched) -> bool:
        """Whether it has waited too long, while nobody else was answered either."""
        since_ms = max(watched.since_ms, self._seats.served_ms(watched.seat.backend, watched.seat.model))
        silent_ms = self._clock_ms() - since_ms
        return silent_ms >= self._silent_ms and silent_ms >= SLOWER * self._expected_ms(watched)

    def _expected_ms(self, watched: _Watched) -> float:
        """The time the node needs to the first byte of such a call."""
        seat, call = watched.seat, watched.call
        backend = self._view.backend(seat.backend)
        rates = (backend.rates.get(seat.model) if backend else None) or UNKNOWN
        expected_ms = call.estimate.prompt_expected * (rates.prompt_token_ms or UNKNOWN.prompt_token_ms)
        if call.by_line:
            return expected_ms
        # nothing comes before all of it is there
        expected_ms += call.estimate.output_max * (rates.output_token_ms or UNKNOWN.output_token_ms)
        return max(expected_ms, rates.call_ms)

    def _is_alone(self, backend: str, model: str) -> bool:
        """Whether the model is loaded there and no call of any replica gets an answer from it."""
        seen = self._view.backend(backend)
        if seen is None or model not in seen.loaded:
            return False
        ours = self._seats.running(backend, model)
        silent = [seat for seat in ours if seat.id in self._watched]
        return len(silent) == len(ours) and self._view.busy(backend, model) <= len(ours)

    async def _recycle_under(self, backend: str, model: str) -> None:
        """And end the wait of those it was silent to: they are asked again."""
        ours = [self._watched[seat.id] for seat in self._seats.running(backend, model) if seat.id in self._watched]
        if not await self.recycle(backend, model):
            return
        for one in ours:
            if one.sending.expire:
                one.seat.recycled = True
                one.sending.expire()
