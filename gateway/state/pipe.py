"""Redis for the request path: commands of one loop turn leave in one batch, each with its own deadline.

redis-py's defaults retry ten times, so a lost reply would be charged twice and one call could block for a minute
(reference: reliability finding 1). Here nothing is retried below `Functions`, a caller waits `timeout_ms` at most, and
a caller that left never gets, or causes, another one's reply.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis

from gateway.state.dial import Dial
from gateway.state.unsent import Unsent
from gateway.state.wire import Asked, Batch, Wire, refuse

DIAL_REST_S = 0.02
"""after a connection could not be made, before the next attempt"""
LOOK_S_MIN = 0.005
"""between two looks at deadlines"""

Shape = Callable[[Any], Any]


class Pipe:
    """Sends commands over one connection: `start`, then `call`, then `close`.

    Whatever is sent through it must be safe to run twice, as all functions of `lua/` are; `blame` may count one failure
    too many. What was on the way when the server closed the connection is sent once more; nothing else is.
    """

    def __init__(self, url: str, timeout_ms: int) -> None:
        self._dial = Dial(url, timeout_ms)
        self._timeout_s = timeout_ms / 1000
        shapes: Any = Redis(protocol=2).response_callbacks
        self._shapes: dict[Any, Shape] = dict(shapes)
        """of replies to commands, as redis-py has them; those of functions are as Redis sends them"""
        self._unsent = Unsent()
        self._again: deque[Batch] = deque()
        """what was on the way over a connection that is no more"""
        self._wire: Wire | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._now_s = 0.0
        """of this turn of the loop, if somebody has asked in it"""
        self._leaves = False
        """whether what is unsent leaves at the end of this turn"""
        self._closed = False

    def start(self) -> None:
        self._dial_soon()

    async def close(self) -> None:
        """Who still waits is refused."""
        self._closed = True
        if self._dialling:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        if self._look_timer:
            self._look_timer.cancel()
        if self._wire:
            self._wire.cut()
        self._refuse_all()

    def call(self, *command: Any) -> Awaitable[Any]:
        """The reply to one command; it is on its way also while nobody awaits it.

        Raises, when awaited, `ResponseError` when Redis refused it, `LimitsUnavailable` when no reply came in time;
        then it is unknown whether the command ran.
        """
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        if not self._leaves:
            self._leaves = True
            self._now_s = loop.time()
            loop.call_soon(self._leave)
        try:
            added = not self._closed and self._unsent.add(pack_command(command), reply, self._now_s)
        except (TypeError, UnicodeError):  # it cannot be sent
            added = False
        if not added:
            refuse(reply)
        shape = self._shapes.get(command[0])
        return reply if shape is None else _shaped(reply, shape)

    def _leave(self) -> None:
        self._leaves = False
        if not self._closed:
            self._send()
            if self._look_timer is None:
                self._look_in(min(self._timeout_s, self._dial.silence_s))

    def _send(self) -> None:
        """As much as the connection takes."""
        wire = self._wire
        if wire is None:
            self._dial_soon()
            return
        while (self._unsent or self._again) and wire.has_room:
            batch = self._again.popleft() if self._again else self._unsent.take()
            if batch.asked:
                wire.send(batch)

    def _on_room(self) -> None:
        """Replies have come. What leaves at the end of this turn waits for it, so that it leaves as one."""
        if not self._leaves and (self._unsent or self._again):
            self._send()

    def _on_end(self, wire: Wire, batches: list[Batch]) -> None:
        """A connection is no more; `batches` were on the way."""
        if wire is not self._wire:
            return
        self._wire = None
        self._again.extend(batch for batch in batches if batch.asked)
        if self._again or self._unsent:
            self._dial_soon()

    def _dial_soon(self) -> None:
        if not self._closed and (self._dialling is None or self._dialling.done()):
            self._dialling = asyncio.create_task(self._connect(), name="redis-pipe")

    async def _connect(self) -> None:
        """One attempt at a time. Who waits when it fails is told so; who comes later waits for the next one."""
        while True:
            try:
                self._wire = await self._dial.open(lambda: Wire(self._on_room, self._on_end))
            except Exception:  # away, hung, loading, no such user: in no case may anybody wait for nothing
                self._refuse_all()
            else:
                self._send()
                return
            await asyncio.sleep(DIAL_REST_S)
            if not self._unsent:
                return

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._look_timer = loop.call_later(max(seconds, LOOK_S_MIN), self._look)

    def _look(self) -> None:
        """Whose time is over is told so, and a server that has said nothing all that time is asked no more."""
        self._look_timer = None
        now_s = asyncio.get_running_loop().time()
        dues_s = []
        if self._wire and (since_s := self._wire.silent_since_s) is not None:
            due_s = since_s + self._dial.silence_s
            if due_s > now_s:
                dues_s.append(due_s)
            else:
                self._wire.cut()
        oldest_s = self._refuse_until(now_s - self._timeout_s)
        if oldest_s is not None:
            dues_s.append(oldest_s + self._timeout_s)
        if dues_s:
            self._look_in(min(dues_s) - now_s)

    def _refuse_until(self, until_s: float) -> float | None:
        """As `Unsent.refuse_until`, of all who wait."""
        for _, reply, since_s in self._sent():
            if since_s <= until_s:
                refuse(reply)
            elif not reply.done():
                return since_s
        return self._unsent.refuse_until(until_s)

    def _refuse_all(self) -> None:
        for _, reply, _ in self._sent():
            refuse(reply)
        self._again.clear()
        self._unsent.refuse_all()

    def _sent(self) -> Iterator[Asked]:
        """What is, or was, on the way, in the order in which it was asked."""
        flights = self._wire.flights if self._wire else ()
        return chain.from_iterable(batch.asked for batch in chain(flights, self._again))


async def _shaped(reply: "asyncio.Future[Any]", shape: Shape) -> Any:
    return shape(await reply)
