"""Nodes that have just failed a call of this replica: for a moment others are preferred.

A failure is quicker than work, so a node that fails looks idle, and would be given one call after the other until its
breaker is known to have opened. To be busy is no fault that a breaker counts: each such rest on end is twice as long.
"""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.routing import Backend
from gateway.errors import BackendBusy, BackendUnreachable, GatewayError

REST_MS = 500
REST_MS_MAX = 30_000


class _Rest(Struct, frozen=True):
    until_ms: int
    length_ms: int


class Rests:
    """`clock_ms` is monotonic. Holds one entry for each node at most."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._rests: dict[str, _Rest] = {}

    def failed(self, name: str, error: GatewayError) -> bool:
        """Whether it had failed before, and has not served since. Calls that were under way together have one failure
        together."""
        last, now = self._rests.get(name), self._clock_ms()
        if not isinstance(error, BackendUnreachable | BackendBusy) or (last and now < last.until_ms):
            return False
        length_ms = min(2 * last.length_ms, REST_MS_MAX) if last and isinstance(error, BackendBusy) else REST_MS
        self._rests[name] = _Rest(now + length_ms, length_ms)
        return last is not None

    def served(self, name: str) -> None:
        """It has answered, so the next failure is the first again. What was under way when it failed proves nothing."""
        rest = self._rests.get(name)
        if rest and self._clock_ms() >= rest.until_ms:
            del self._rests[name]

    def seen(self, backend: Backend) -> Backend:
        """The backend as calls of this replica see it now: one that rests is as good as full."""
        rest = self._rests.get(backend.name)
        if rest is None or self._clock_ms() >= rest.until_ms:
            return backend
        return replace(backend, busy=max(backend.busy, backend.slots))
