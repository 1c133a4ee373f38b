"""How a call gets its slot: at once, or by waiting for one in the line that all replicas share.

A waiting call hears of its slot by a message; should that be lost, it asks again every second, which also says that its
client is still there.
"""

import asyncio
import math
from collections.abc import Callable

from msgspec import Struct

from gateway.backends.rests import Rests
from gateway.backends.seats import Seat, Seats
from gateway.backends.view import FleetView
from gateway.core import affinity, routing
from gateway.core.call import Call, Queued
from gateway.core.placing import Ask, Foreseen, Full, Left, Placed, Waiting
from gateway.core.routing import Candidate, Wanted
from gateway.errors import LimitsUnavailable, LineFull, NoBackend, WaitedTooLong
from gateway.ports import FleetObserver, Placement

POLL_S = 1.0
FULL_SHARE = 0.05
"""a line that was full is taken for full as long as this part of it takes to be served"""
FULL_MS_MAX = 250
"""and no longer than that"""
RETRY_S_MIN, RETRY_S_MAX = 2, 10
"""what Retry-After says to those who did not get a slot"""


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of a call. `weight` is its key's in the line; `told` hears where in the line it is."""

    id: str
    call: Call
    weight: int
    tried: frozenset[str] = frozenset()
    """backends that have failed it already"""
    waited_ms: int = 0
    """by earlier attempts, and for earlier prompts of the call"""
    told: Callable[[Queued], object]
    wish: Wanted
    """what it needs of a backend"""


class Line:
    """`clock_ms` is monotonic. At most `depth_max` calls wait for one model, each `wait_ms_max` at most."""

    def __init__(
        self,
        placement: Placement,
        view: FleetView,
        seats: Seats,
        observer: FleetObserver,
        clock_ms: Callable[[], int],
        *,
        depth_max: int,
        wait_ms_max: int,
    ) -> None:
        self._placement = placement
        self._view = view
        self._seats = seats
        self._observer = observer
        self._clock_ms = clock_ms
        self._depth_max = depth_max
        self._wait_ms_max = wait_ms_max
        self._waiting: dict[str, asyncio.Future[Placed]] = {}
        self._full_until_ms: dict[str, int] = {}
        """by model"""
        self.rests = Rests(clock_ms)

    @property
    def waiting(self) -> int:
        """Calls of this replica that wait."""
        return len(self._waiting)

    def woken(self, attempt: str, placed: Placed) -> None:
        """A waiting call has a slot."""
        future = self._waiting.get(attempt)
        if future and not future.done():
            future.set_result(placed)

    def is_full(self, model: str) -> bool:
        """Whether it just was, and has hardly moved since: then it need not be asked. It is full for nobody while a
        node has room, which may be too small for those that wait."""
        just_was = self._full_until_ms.get(model, 0) > self._clock_ms()
        return just_was and self._view.is_busy(model)

    async def seat(self, attempt: Attempt) -> Seat:
        """A slot for the call. Raises `NoBackend`, `LineFull`, `WaitedTooLong` or `LimitsUnavailable`."""
        placed = None
        began_ms = self._clock_ms()
        try:
            placed = await self._placed(attempt, began_ms)
        finally:
            if placed is None:
                self._seats.leave(Left(id=attempt.id))
        waited_ms = self._clock_ms() - began_ms
        self._observer.placed(placed.backend, attempt.call.model, waited_ms, cached=placed.cached)
        seat = Seat(
            id=attempt.id,
            backend=placed.backend,
            model=attempt.call.model,
            key_id=attempt.call.credential.key_id,
            loads=placed.loads,
            cached=placed.cached,
            waited_ms=waited_ms,
        )
        self._seats.take(seat)
        return seat

    async def foresee(self, call: Call, weight: int) -> Foreseen:
        """What `seat` would do with the call now. Changes nothing. Raises `LimitsUnavailable`."""
        attempt = Attempt(id=call.id, call=call, weight=weight, told=lambda _: None, wish=wanted(call))
        reasons = {backend.name: routing.unfit(backend, attempt.wish) for backend in self._view.snapshot()}
        unfit = {name: reason for name, reason in reasons.items() if reason}
        try:
            ask = self.ask(attempt)
        except NoBackend:
            return Foreseen(unfit=unfit)
        verdict, affinity = await self._placement.foresee(ask, depth_max=self._depth_max)
        position = verdict.position if isinstance(verdict, Waiting) else 0
        return Foreseen(
            verdict=verdict,
            ranked=tuple(ask.candidates),
            unfit=unfit,
            affinity=affinity,
            about_s=self._about_s(ask.candidates, attempt, position),
        )

    async def _placed(self, attempt: Attempt, began_ms: int) -> Placed:
        patience_ms = self._patience_ms(attempt)
        future = asyncio.get_running_loop().create_future()
        self._waiting[attempt.id] = future
        asked = False
        try:
            while True:
                said = await self._ask(attempt, waits=patience_ms > 0, again=asked)
                if isinstance(said, Placed):
                    return said
                left_ms = began_ms + patience_ms - self._clock_ms()
                if left_ms <= 0:
                    raise WaitedTooLong(retry_after_s=self._retry_s(attempt, said))
                pause_s = POLL_S if asked else self._home_ms(attempt.wish) / 1000 or POLL_S
                try:
                    async with asyncio.timeout(min(pause_s, POLL_S, max(left_ms, 0) / 1000)):
                        return await asyncio.shield(future)
                except TimeoutError:
                    asked = True
        finally:
            self._waiting.pop(attempt.id, None)

    async def _ask(self, attempt: Attempt, *, waits: bool, again: bool) -> Placed | Waiting:
        """Asked again while Redis is away for a moment, it is as if nothing had changed."""
        ask = self.ask(attempt)
        try:
            said = await self._placement.place(ask, depth_max=self._depth_max, waits=waits)
        except LimitsUnavailable:
            if not again:
                raise
            return Waiting(0, 0)
        if isinstance(said, Full):
            drained_s = self._about_s(ask.candidates, attempt, said.depth)
            self._full_until_ms[attempt.call.model] = self._clock_ms() + int(
                min(FULL_MS_MAX, drained_s * 1000 * FULL_SHARE)
            )
            raise LineFull(retry_after_s=self._retry_s(attempt, Waiting(said.depth, said.depth)))
        if isinstance(said, Waiting) and waits:
            attempt.told(Queued(said.position, self._about_s(ask.candidates, attempt, said.position)))
        return said

    def ask(self, attempt: Attempt) -> Ask:
        """What it asks of the fleet, as the fleet is now. Raises `NoBackend`."""
        call, wish = attempt.call, attempt.wish
        untried = [backend for backend in self._view.snapshot() if backend.name not in attempt.tried]
        candidates = routing.rank(map(self.rests.seen, untried), wish)
        if not candidates:
            raise NoBackend
        digests = affinity.prefixes(call.credential.key_id, call.model, call.upstream.parts())
        return Ask(
            id=attempt.id,
            key_id=call.credential.key_id,
            weight=attempt.weight,
            model=call.model,
            tokens=wish.prompt_tokens + wish.output_tokens,
            candidates=[self._helped(one, call.model) for one in candidates],
            lookups=affinity.looked_up(digests),
            records=affinity.recorded(digests),
            home_ms=self._home_ms(wish) if digests else 0,
        )

    def _helped(self, candidate: Candidate, model: str) -> Candidate:
        """Without a say for what the node has in mind, where that makes it no faster."""
        backend = self._view.backend(candidate.backend)
        rates = backend.rates.get(model) if backend else None
        return candidate if rates is None or affinity.helps(rates) else routing.aloof(candidate)

    def _home_ms(self, wish: Wanted) -> int:
        return affinity.home_ms(affinity.saving_ms(self._view.snapshot(), wish))

    def _patience_ms(self, attempt: Attempt) -> int:
        wish = attempt.call.wait_ms_max
        return (self._wait_ms_max if wish is None else min(wish, self._wait_ms_max)) - attempt.waited_ms

    def _about_s(self, candidates: list[Candidate], attempt: Attempt, position: int) -> float:
        slots = sum(one.slots for one in candidates) or 1
        backends = (self._view.backend(one.backend) for one in candidates)
        return position * routing.typical_call_ms([b for b in backends if b], attempt.call.model) / slots / 1000

    def _retry_s(self, attempt: Attempt, said: Waiting) -> int:
        candidates = routing.rank(self._view.snapshot(), attempt.wish)
        about = math.ceil(self._about_s(candidates, attempt, said.position))
        return min(max(about, RETRY_S_MIN), RETRY_S_MAX)


def wanted(call: Call) -> Wanted:
    """What the call needs of a backend; of several prompts, each."""
    parts = 1 + len(call.further)
    return Wanted(
        model=call.model,
        context_tokens=call.upstream.context_tokens,
        prompt_tokens=call.estimate.prompt_expected // parts,
        output_tokens=min(call.estimate.output_max // parts, routing.OUTPUT_TOKENS_EXPECTED),
        salt=call.id,
    )
