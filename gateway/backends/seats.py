"""The slots that this replica's calls have taken: renewed while they run, given back when they end, even if Redis is
away when they do. What a call came to goes with it, and is held against, or in favour of, its backend."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from gateway.backends.breakers import Breakers
from gateway.backends.view import FleetView
from gateway.core.breaker import Breaker, Event
from gateway.core.placing import Freed, Left
from gateway.core.routing import WHOLE_NODE
from gateway.errors import LimitsUnavailable
from gateway.ports import Placement

RENEW_MS = 5_000
RENEW_S = 0.5
"""between two looks at what is due: a slot that was granted to a waiting call has to be taken within five seconds"""
ROUND_S = 1.0
"""before Redis is told again what it could not be told"""
AT_ONCE_MAX = 512
OWED_MAX = 50_000
"""attempts that have ended and that Redis has not heard of; further ones end by themselves, with their lease"""


class Seat(Struct, kw_only=True):
    """One attempt's slot. `loads`: the model is loaded for it; `cached`: the beginning of its prompt may be there."""

    id: str
    backend: str
    model: str
    key_id: str
    loads: bool
    cached: bool
    context_tokens: int = 0
    """the num_ctx it was sent with"""
    loading: bool = False
    """the model is not there yet"""
    recycled: bool = False
    """the watchdog has unloaded the model under it"""
    renewed_ms: int = 0
    waited_ms: int = 0
    """for this slot"""


class Verdict(Struct, frozen=True):
    """What an attempt's end says of its node, and of the model there; None: nothing."""

    node: Event | None = None
    pair: Event | None = None


NEUTRAL = Verdict()
GOOD = Verdict("ok", "ok")


class _Owed(Struct, frozen=True):
    left: Left
    verdict: Verdict
    backend: str
    model: str


class Seats:
    """`run` must be running while calls are. `clock_ms` is monotonic."""

    def __init__(self, placement: Placement, view: FleetView, breakers: Breakers, clock_ms: Callable[[], int]) -> None:
        self._placement = placement
        self._view = view
        self._breakers = breakers
        self._clock_ms = clock_ms
        self._held: dict[str, Seat] = {}
        self._owed: dict[str, _Owed] = {}
        self._loaded: set[tuple[str, str]] = set()
        self._served_ms: dict[tuple[str, str], int] = {}
        """bounded by the fleet's nodes and models"""
        self._changed = asyncio.Event()

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def owed(self) -> int:
        """Attempts that are over and that Redis has not heard of."""
        return len(self._owed)

    def running(self, backend: str, model: str) -> list[Seat]:
        """The slots of this replica there."""
        return [seat for seat in self._held.values() if (seat.backend, seat.model) == (backend, model)]

    def served_ms(self, backend: str, model: str) -> int:
        """When a call of this replica was last answered well there."""
        return self._served_ms.get((backend, model), 0)

    def take(self, seat: Seat) -> None:
        """A call has this slot now. It was renewed by that; one that was granted while it waited, soon."""
        seat.loading = seat.loads
        self._held[seat.id] = seat
        self._view.took(seat.backend, 1)

    def leave(self, left: Left, verdict: Verdict = NEUTRAL) -> None:
        """An attempt is over, or its call waits no longer. Redis hears of it at once, or as soon as it is there."""
        seat = self._held.pop(left.id, None)
        if seat:
            self._view.took(seat.backend, -1)
            if left.good:
                self._served_ms[seat.backend, seat.model] = self._clock_ms()
        if len(self._owed) < OWED_MAX:
            where = (seat.backend, seat.model) if seat else ("", "")
            self._owed[left.id] = _Owed(left, verdict, *where)
        self._changed.set()

    def loaded(self, backend: str, model: str) -> None:
        """A backend has a model now that was being loaded there."""
        for seat in self.running(backend, model):
            seat.loading = False
        self._loaded.add((backend, model))
        self._changed.set()

    async def renew(self) -> None:
        """Renew, for ever; a loop of its own, for slots that are not renewed in time go to others."""
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(LimitsUnavailable):
                await self._renew()

    async def run(self) -> None:
        """Give back, for ever."""
        while True:
            with suppress(TimeoutError):  # not wait_for, which may swallow a cancellation
                async with asyncio.timeout(ROUND_S):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.settle()
            except LimitsUnavailable:
                await asyncio.sleep(ROUND_S)

    async def settle(self) -> None:
        """Tell Redis everything that it has not heard yet. Raises `LimitsUnavailable`."""
        if self._loaded:
            pairs = set(self._loaded)
            await self._placement.loaded(pairs)
            self._loaded -= pairs
        while self._owed:
            batch = list(self._owed.values())[:AT_ONCE_MAX]
            freed = await self._placement.leave([owed.left for owed in batch])
            for owed, one in zip(batch, freed, strict=True):
                await self._judge(owed, one)
                self._owed.pop(owed.left.id, None)

    async def _judge(self, owed: _Owed, freed: Freed | None) -> None:
        """What the outcome changes about the breakers."""
        if not owed.backend:
            return
        now_ms = freed.now_ms if freed else self._view.now_ms
        events: tuple[tuple[str, Event | None, Breaker | None], ...] = (
            (WHOLE_NODE, owed.verdict.node, freed.node if freed else None),
            (owed.model, owed.verdict.pair, freed.pair if freed else None),
        )
        for model, event, was in events:
            if event:
                await self._breakers.tell(owed.backend, model, event, now_ms, was)

    async def _renew(self) -> None:
        now = self._clock_ms()
        due = [seat for seat in self._held.values() if now - seat.renewed_ms >= RENEW_MS]
        for start in range(0, len(due), AT_ONCE_MAX):
            batch = due[start : start + AT_ONCE_MAX]
            await self._placement.hold((seat.id, seat.backend, seat.model, seat.key_id, seat.loading) for seat in batch)
            for seat in batch:
                seat.renewed_ms = now
