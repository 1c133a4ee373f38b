"""The hot routes: one bare ASGI function for every dialect, from the socket to an outbox and back.

Bare, because Litestar's request and response objects cost more than all the rest of a call, and because its `Stream`
does not close what it streams when the client leaves (reference: performance 3c, reliability finding 2).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gateway.core import limits, names
from gateway.core.call import Call, PromptSize
from gateway.core.limits import Estimate
from gateway.dialects.asked import Asked, Dialect
from gateway.dialects.policy import Policy
from gateway.errors import (
    CallAbandoned,
    GatewayError,
    MethodNotAllowed,
    ModelMissing,
    ModelNotFound,
    NoBackend,
    Overloaded,
)
from gateway.outbox import Outbox
from gateway.pipeline import Pipeline
from gateway.ports import Fleet, Observer
from gateway.running import Running
from gateway.web import body
from gateway.web.credentials import Door
from gateway.web.replies import Reply

RUNNING_CALLS_MAX = 20_000
END_USER_CHARS_MAX = 256


class CallDeps(Struct, frozen=True, kw_only=True):
    """What the hot routes need. Clocks: monotonic milliseconds and unix seconds; `new_id` makes a call id."""

    pipeline: Pipeline
    fleet: Fleet
    running: Running
    door: Door
    clock_ms: Callable[[], int]
    clock_s: Callable[[], float]
    new_id: Callable[[], str]
    observer: Observer
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
            call, asked = await self._read(deps, scope, receive, call_id, began_ms, model)
        except GatewayError as error:
            await refuse(deps, self.endpoint, call_id, reply, error)
            return
        renderer = asked.renderer(call_id, int(deps.clock_s()))
        deps.running.start(deps.pipeline.run(call, renderer, out), out)
        watcher = asyncio.create_task(_watch(receive, out))
        try:
            await reply.answer(out, renderer, call.streamed, call.estimate.output_max)
        finally:
            watcher.cancel()
            out.leave()
            if out.refusal and not out.admission:
                deps.observer.refused(self.endpoint, call_id, out.refusal)

    async def _read(
        self, deps: CallDeps, scope: Any, receive: Any, call_id: str, began_ms: int, model: str | None
    ) -> tuple[Call, Asked]:
        if scope["method"] != "POST":
            raise MethodNotAllowed
        if len(deps.running) >= RUNNING_CALLS_MAX:
            raise Overloaded
        credential, source = deps.door.presented(scope)
        asked = body.decoded(await deps.intake.read(receive, scope["headers"]), self._dialect.parse)
        spelling = model or asked.model or self._default_model(deps)
        name = names.canonical(spelling)
        if name is None:
            raise ModelNotFound
        upstreams = (asked.upstream, *asked.further)
        sizes = [one.size() for one in upstreams]
        first, *further = map(deps.policy.apply, upstreams, sizes)
        call = Call(
            id=call_id,
            credential=credential,
            source=source,
            endpoint=self.endpoint,
            model=name,
            streamed=asked.streamed,
            by_line=asked.streamed or asked.collected,
            upstream=first,
            further=tuple(further),
            estimate=_estimate(sizes, asked.output_tokens_max, deps.policy.output_tokens_max),
            began_ms=began_ms,
            end_user=asked.end_user.replace("\0", "")[:END_USER_CHARS_MAX],
        )
        return call, asked

    def _default_model(self, deps: CallDeps) -> str:
        """Raises `ModelMissing`, or `NoBackend` while nobody knows what there is."""
        if not self._dialect.has_default_model:
            raise ModelMissing(param="model")
        name = deps.fleet.default_model()
        if not name:
            raise ModelMissing if deps.fleet.models() else NoBackend
        return name


async def refuse(deps: CallDeps, endpoint: str, call_id: str, reply: Reply, error: GatewayError) -> None:
    """A request that became no call: the log hears of it and the client, unless that has left."""
    if isinstance(error, CallAbandoned):
        return
    deps.observer.refused(endpoint, call_id, error)
    await reply.error(error, [(b"allow", b"POST")] if isinstance(error, MethodNotAllowed) else [])


def _estimate(sizes: list[PromptSize], wanted: int | None, output_tokens_max: int) -> Estimate:
    """`wanted` and its bound are for the answer to each prompt."""
    each = output_tokens_max if wanted is None else min(wanted, output_tokens_max)
    return limits.estimate(
        prompt_bytes=sum(size.text_bytes for size in sizes),
        messages=sum(size.messages for size in sizes),
        images=sum(size.images for size in sizes),
        output_max=each * len(sizes),
    )


async def _watch(receive: Any, out: Outbox) -> None:
    """uvicorn cancels nothing when a client goes; somebody has to be listening."""
    while (await receive())["type"] != "http.disconnect":
        pass
    out.leave()
