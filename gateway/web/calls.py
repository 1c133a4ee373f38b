"""The hot routes: one bare ASGI function for every dialect, from the socket to an outbox and back.

Bare, because Litestar's request and response objects cost more than all the rest of a call, and because its `Stream`
does not close what it streams when the client leaves (reference: performance 3c, reliability finding 2).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from gateway.core.call import Call
from gateway.core.trace import Trace
from gateway.dialects.asked import Dialect, Renderer
from gateway.dialects.policy import Policy
from gateway.errors import CallAbandoned, GatewayError, MethodNotAllowed, Overloaded
from gateway.gate import Gate
from gateway.outbox import Outbox
from gateway.pipeline import Pipeline
from gateway.ports import Fleet, Observer
from gateway.running import Running
from gateway.web import body, intent
from gateway.web.credentials import Door
from gateway.web.intent import Origin
from gateway.web.patience import wait_ms_max
from gateway.web.replies import Reply

RUNNING_CALLS_MAX = 20_000


class CallDeps(Struct, frozen=True, kw_only=True):
    """What the hot routes need. Clocks: monotonic milliseconds and unix seconds; `new_id` makes a call id, `trace` the
    context of a request with these headers."""

    pipeline: Pipeline
    fleet: Fleet
    running: Running
    gate: Gate
    door: Door
    clock_ms: Callable[[], int]
    clock_s: Callable[[], float]
    new_id: Callable[[], str]
    observer: Observer
    trace: Callable[[Iterable[tuple[bytes, bytes]]], Trace | None]
    intake: body.Intake
    policy: Policy
    beat_s: float
    routing_headers: bool


class CallEndpoint:
    """Answers one route in one dialect. `endpoint` is the route's template, for rows and metrics."""

    def __init__(self, endpoint: str, dialect: Dialect) -> None:
        self.endpoint = endpoint
        self._dialect = dialect

    async def answer(self, deps: CallDeps, scope: Any, receive: Any, send: Any, model: str | None = None) -> None:
        """Read, run, reply. `model`, when the path names it, wins over the body's."""
        call_id, began_ms = deps.new_id(), deps.clock_ms()
        out = Outbox()
        reply = Reply(send, self._dialect, call_id, beat_s=deps.beat_s, routing_headers=deps.routing_headers)
        try:
            call, renderer = await self._read(deps, scope, receive, call_id, began_ms, model)
        except GatewayError as error:
            await refuse(deps, self.endpoint, call_id, reply, error)
            return
        except Exception as error:  # a bug of ours
            deps.observer.surprised(self.endpoint, call_id, error)
            await refuse(deps, self.endpoint, call_id, reply, GatewayError())
            return
        deps.running.start(deps.pipeline.run(call, renderer, out), out)
        watcher = asyncio.get_running_loop().create_task(_watch(receive, out), name="watcher")
        try:
            await reply.answer(out, renderer, call.streamed, call.estimate.output_max)
        finally:
            watcher.cancel()
            out.leave()
            if out.refusal and not out.admission:
                deps.observer.refused(self.endpoint, call_id, out.refusal, call)

    async def _read(
        self, deps: CallDeps, scope: Any, receive: Any, call_id: str, began_ms: int, model: str | None
    ) -> tuple[Call, Renderer]:
        if scope["method"] != "POST":
            raise MethodNotAllowed
        if len(deps.running) >= RUNNING_CALLS_MAX or deps.gate.full:
            raise Overloaded
        credential, source = deps.door.presented(scope)
        patience_ms = wait_ms_max(scope["headers"])
        data = await deps.intake.read(receive, scope["headers"])
        origin = Origin(
            id=call_id,
            credential=credential,
            source=source,
            address_hash=deps.door.hashed(source),
            endpoint=self.endpoint,
            dialect=self._dialect.name,
            began_ms=began_ms,
            wait_ms_max=patience_ms,
            body_ms=deps.clock_ms() - began_ms,
            trace=deps.trace(scope["headers"]),
        )
        scope["headers"].clear()  # kilobytes, which nobody reads any more, and a stream may last
        asked = body.decoded(data, self._dialect.parse)
        spelling = model or intent.spelling(deps.fleet, self._dialect, asked)
        call = intent.call(deps.policy, origin, asked, intent.meant(deps.fleet, spelling))
        return call, asked.renderer(call_id, int(deps.clock_s()))


async def refuse(deps: CallDeps, endpoint: str, call_id: str, reply: Reply, error: GatewayError) -> None:
    """A request that became no call: the log hears of it and the client, unless that has left."""
    if isinstance(error, CallAbandoned):
        return
    deps.observer.refused(endpoint, call_id, error)
    await reply.error(error, [(b"allow", b"POST")] if isinstance(error, MethodNotAllowed) else [])


async def _watch(receive: Any, out: Outbox) -> None:
    """uvicorn cancels nothing when a client goes; somebody has to be listening."""
    while (await receive())["type"] != "http.disconnect":
        pass
    out.leave()
