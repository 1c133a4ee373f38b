"""Loads of models go on when the calls that began them do not.

To Ollama a load belongs to the request that came first, and ends with it: everybody else would wait for it from the
beginning again (reference: ollama-http section 5.5).
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from gateway.backends.seats import Seat, Seats
from gateway.backends.sending import AnyHead
from gateway.backends.view import FleetView
from gateway.core.placing import Left
from gateway.errors import GatewayError

LOAD_S_MAX = 900.0
"""how long a load may go on that nobody began it for any more"""
LOOK_S = 0.5
"""between two looks at whether the node lists the model, for an answer that is not streamed comes only whole"""


class Loads:
    """Owns the requests whose callers have left before the model was there."""

    def __init__(self, seats: Seats, view: FleetView) -> None:
        self._seats = seats
        self._view = view
        self._orphans: dict[str, asyncio.Task[None]] = {}

    def kept(self, seat: Seat) -> bool:
        """Whether the slot goes on being held, for a load."""
        return seat.id in self._orphans

    async def carry(self, seat: Seat, posting: Coroutine[Any, Any, AnyHead]) -> AnyHead:
        """The head of the answer; the model is loaded then. Whoever stops waiting for it does not end the load."""
        task = asyncio.create_task(posting)
        try:
            head = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._orphans[seat.id] = asyncio.create_task(self._see_through(seat, task))
            elif not task.cancelled() and task.exception() is None:
                task.result().close()
            raise
        self._seats.loaded(seat.backend, seat.model)
        return head

    async def close(self) -> None:
        orphans = list(self._orphans.values())
        for orphan in orphans:
            orphan.cancel()
        await asyncio.gather(*orphans, return_exceptions=True)

    async def _see_through(self, seat: Seat, task: asyncio.Task[AnyHead]) -> None:
        """Until the first byte, or until the node lists the model; then the work itself is of no use."""
        good = False
        try:
            async with asyncio.timeout(LOAD_S_MAX):
                while not task.done() and not self._listed(seat):
                    await asyncio.wait({task}, timeout=LOOK_S)
            good = self._listed(seat)
            with suppress(GatewayError):
                if task.done():
                    task.result().close()
                    good = True
        except TimeoutError:
            pass
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del self._orphans[seat.id]
            if good:
                self._seats.loaded(seat.backend, seat.model)
            self._seats.leave(Left(id=seat.id))

    def _listed(self, seat: Seat) -> bool:
        backend = self._view.backend(seat.backend)
        loaded = backend.loaded.get(seat.model) if backend else None
        return loaded is not None and loaded.context_tokens >= seat.context_tokens
