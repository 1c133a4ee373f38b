"""The hot routes: one bare ASGI function for every dialect, from the socket to an outbox and back.

Bare, because Litestar's request and response objects cost more than all the rest of a call, and because its `Stream`
does not close what it streams when the client leaves (reference: performance 3c, reliability finding 2).
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core import limits, names
from gateway.core.call import Call
from gateway.dialects.asked import Asked, Dialect, Renderer
from gateway.errors import (
    BadRequest,
    CallAbandoned,
    GatewayError,
    InvalidJson,
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
from gateway.web import body, credentials, headers
from gateway.web.headers import Headers

RUNNING_CALLS_MAX = 20_000
END_USER_CHARS_MAX = 256
STALL_S = 60.0
"""how long a client may take nothing of a streamed answer before it counts as gone"""


class CallDeps(Struct, frozen=True, kw_only=True):
    """What the hot routes need. Clocks: monotonic milliseconds and unix seconds; `new_id` makes a call id."""

    pipeline: Pipeline
    fleet: Fleet
    running: Running
    clock_ms: Callable[[], int]
    clock_s: Callable[[], float]
    new_id: Callable[[], str]
    observer: Observer
    intake: body.Intake
    output_tokens_max: int


class CallEndpoint:
    """Answers one route in one dialect. `endpoint` is the route's template, for rows and metrics."""

    def __init__(self, endpoint: str, dialect: Dialect) -> None:
        self.endpoint = endpoint
        self._dialect = dialect

    async def answer(self, deps: CallDeps, scope: Any, receive: Any, send: Any, model: str | None = None) -> None:
        """Read, run, reply. `model`, when the path names it, wins over the body's."""
        call_id, began_ms = deps.new_id(), deps.clock_ms()
        out = Outbox()
        try:
            call, asked = await self._read(deps, scope, receive, call_id, began_ms, model)
        except CallAbandoned:
            return
        except GatewayError as error:
            await self._refuse(deps, send, call_id, error)
            return
        renderer = self._dialect.renderer(asked, call_id, int(deps.clock_s()))
        deps.running.start(deps.pipeline.run(call, renderer, out), out)
        watcher = asyncio.create_task(_watch(receive, out))
        try:
            await self._reply(deps, call, renderer, out, send)
        finally:
            watcher.cancel()
            out.leave()

    async def _read(
        self, deps: CallDeps, scope: Any, receive: Any, call_id: str, began_ms: int, model: str | None
    ) -> tuple[Call, Asked]:
        if scope["method"] != "POST":
            raise MethodNotAllowed
        if len(deps.running) >= RUNNING_CALLS_MAX:
            raise Overloaded
        credential = credentials.presented(scope["headers"])
        asked = self._parse(await deps.intake.read(receive, scope["headers"]))
        spelling = model or asked.model or deps.fleet.default_model()
        if not spelling:
            raise ModelMissing if deps.fleet.models() else NoBackend
        name = names.canonical(spelling)
        if name is None or names.is_cloud(name):
            raise ModelNotFound
        wanted = min(asked.output_tokens_max or deps.output_tokens_max, deps.output_tokens_max)
        call = Call(
            id=call_id,
            credential=credential,
            endpoint=self.endpoint,
            model=name,
            streamed=asked.streamed,
            upstream=asked.upstream,
            estimate=limits.estimate(
                prompt_bytes=asked.prompt.text_bytes,
                messages=asked.prompt.messages,
                images=asked.prompt.images,
                output_max=wanted,
            ),
            began_ms=began_ms,
            end_user=asked.end_user.replace("\0", "")[:END_USER_CHARS_MAX],
        )
        return call, asked

    def _parse(self, raw: bytes) -> Asked:
        body.check_depth(raw)
        try:
            return self._dialect.parse(raw)
        except msgspec.ValidationError as error:
            raise BadRequest(f"The request is not valid: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidJson(f"The body is not valid JSON: {error}") from None

    async def _reply(self, deps: CallDeps, call: Call, renderer: Renderer, out: Outbox, send: Any) -> None:
        first = await out.take()
        if out.refusal and out.admission:
            await self._whole_error(send, call.id, out.refusal, _levels(out))
        elif out.refusal:
            await self._refuse(deps, send, call.id, out.refusal)
        elif first is not None and call.streamed:
            more = [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
            await _start(send, 200, renderer.content_type, call.id, more + _levels(out))
            await _stream(send, out, first)
        elif first is not None:
            await _whole(send, 200, first, call.id, _levels(out))

    async def _refuse(self, deps: CallDeps, send: Any, call_id: str, error: GatewayError) -> None:
        """A request that was not admitted."""
        deps.observer.refused(self.endpoint, call_id, error)
        allow = [(b"allow", b"POST")] if isinstance(error, MethodNotAllowed) else []
        await self._whole_error(send, call_id, error, allow)

    async def _whole_error(self, send: Any, call_id: str, error: GatewayError, more: Headers) -> None:
        status, data = self._dialect.render_error(error)
        await _whole(send, status, data, call_id, headers.of_error(error) + more)


async def _watch(receive: Any, out: Outbox) -> None:
    """uvicorn cancels nothing when a client goes; somebody has to be listening."""
    while (await receive())["type"] != "http.disconnect":
        pass
    out.leave()


def _levels(out: Outbox) -> Headers:
    return headers.of_levels(out.admission.levels if out.admission else None)


async def _start(send: Any, status: int, content_type: bytes, call_id: str, more: Headers) -> None:
    own = [(b"content-type", content_type), (b"x-request-id", call_id.encode())]
    await send({"type": "http.response.start", "status": status, "headers": own + more})


async def _whole(send: Any, status: int, data: bytes, call_id: str, more: Headers) -> None:
    length = (b"content-length", b"%d" % len(data))
    await _start(send, status, b"application/json", call_id, [length, *more])
    await send({"type": "http.response.body", "body": data})


async def _stream(send: Any, out: Outbox, first: bytes) -> None:
    """Everything the call puts out. A client that takes nothing for STALL_S is cut off."""
    data: bytes | None = first
    try:
        while data is not None:
            async with asyncio.timeout(STALL_S):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            data = await out.take()
    except TimeoutError:
        return
    if not out.gone:
        await send({"type": "http.response.body", "body": b""})
