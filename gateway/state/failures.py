"""Addresses that fail to say who they are: so many times a minute they are told so, beyond that to wait.

Redis counts, for all replicas as one. A key that is malformed is refused without Redis, so each replica counts those
failures itself; and what Redis last said of an address is remembered, so that a flood of failures costs it nothing.
"""

from collections.abc import Callable

from msgspec import Struct

from gateway.errors import FailuresLimited, GatewayError, LimitsUnavailable
from gateway.state import keyspace
from gateway.state.functions import Functions

ADDRESSES_MAX = 10_000
MINUTE_MS = 60_000
MAPPED = f"{0xFFFF:024x}"
"""how an IPv4 address begins"""
SUBSCRIBER_DIGITS = 16


class _Seen(Struct):
    """Of one address: failures that are left, when that was so, until when it is not heard."""

    left: float
    at_ms: int
    waits_until_ms: int = 0


class Failures:
    """`per_min` failures of an address are heard out. `clock_ms` is monotonic. `kind` keeps one sort from another."""

    def __init__(
        self, functions: Functions, shards: int, clock_ms: Callable[[], int], *, per_min: int, kind: str = ""
    ) -> None:
        self._functions = functions
        self._shards = shards
        self._clock_ms = clock_ms
        self._per_min = per_min
        self._kind = kind
        self._seen: dict[str, _Seen] = {}

    async def check(self, source: str) -> None:
        """Raises `FailuresLimited` for an address that is not heard now. While Redis is away, as far as we remember."""
        self._check_memory(source)
        await self._ask(source, 0)

    def check_here(self, source: str) -> None:
        """The same by this replica's count alone, without a wait before what follows: guesses come at once."""
        seen = self._refilled(source)
        if seen.left < 1:
            self._wait(seen)
        self._check_memory(source)

    async def failed(self, source: str, error: GatewayError) -> GatewayError:
        """What to answer to a failure that Redis had to look at: `error`, or that it was one too many."""
        try:
            self._check_memory(source)
            await self._ask(source, 1)
        except FailuresLimited as limited:
            return limited
        return error

    def failed_here(self, source: str, error: GatewayError) -> GatewayError:
        """The same for one that this replica could see by itself."""
        try:
            self.check_here(source)
        except FailuresLimited as limited:
            return limited
        self._of(source).left -= 1
        return error

    async def _ask(self, source: str, count: int) -> None:
        name = keyspace.failures(f"{self._kind}{_place(source)}", self._shards)
        try:
            wait_ms = await self._functions.call("blame", [name], [self._per_min, count])
        except LimitsUnavailable:
            return  # it is no verdict; what follows needs Redis itself, or is bounded by `check_here`
        if wait_ms:
            self._of(source).waits_until_ms = self._clock_ms() + wait_ms
            self._check_memory(source)

    def _check_memory(self, source: str) -> None:
        seen = self._seen.get(_place(source))
        wait_ms = seen.waits_until_ms - self._clock_ms() if seen else 0
        if wait_ms > 0:
            raise FailuresLimited(retry_after_s=-(-wait_ms // 1000))

    def _refilled(self, source: str) -> _Seen:
        seen, now_ms = self._of(source), self._clock_ms()
        refilled = seen.left + (now_ms - seen.at_ms) * self._per_min / MINUTE_MS
        seen.left, seen.at_ms = min(float(self._per_min), refilled), now_ms
        return seen

    def _wait(self, seen: _Seen) -> None:
        until_ms = seen.at_ms + round((1 - seen.left) * MINUTE_MS / self._per_min)
        seen.waits_until_ms = max(seen.waits_until_ms, until_ms)

    def _of(self, source: str) -> _Seen:
        place = _place(source)
        seen = self._seen.get(place)
        if seen is None:
            if len(self._seen) >= ADDRESSES_MAX:
                del self._seen[next(iter(self._seen))]
            seen = self._seen[place] = _Seen(float(self._per_min), self._clock_ms())
        return seen


def _place(source: str) -> str:
    """What counts as one address: an IPv4 one, or all of IPv6 that one subscriber has, which is a /64 at least."""
    return source if source.startswith(MAPPED) else source[:SUBSCRIBER_DIGITS]
