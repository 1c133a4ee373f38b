"""The way of an answer from its outbox to its client's connection."""

from typing import Any

from gateway.dialects.asked import Dialect, Renderer
from gateway.errors import GatewayError
from gateway.outbox import Outbox
from gateway.web import headers
from gateway.web.headers import Headers
from gateway.web.vigil import Vigil

_STREAMED: Headers = [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


class Reply:
    """Sends the answer to one request. Every answer carries the call's id and the limits, where they are known."""

    __slots__ = ("_beat_s", "_call_id", "_dialect", "_output_tokens_wanted", "_routing_headers", "_send")

    def __init__(self, send: Any, dialect: Dialect, call_id: str, *, beat_s: float, routing_headers: bool) -> None:
        self._send = send
        self._dialect = dialect
        self._call_id = call_id
        self._beat_s = beat_s
        self._routing_headers = routing_headers
        self._output_tokens_wanted = 0

    async def whole(self, status: int, data: bytes, more: Headers) -> None:
        await self._start(status, b"application/json", [(b"content-length", b"%d" % len(data)), *more])
        await self._send({"type": "http.response.body", "body": data})

    async def error(self, error: GatewayError, more: Headers) -> None:
        status, data = self._dialect.render_error(error, self._call_id)
        await self.whole(status, data, headers.of_error(error) + more)

    async def answer(self, out: Outbox, renderer: Renderer, streamed: bool, output_tokens_wanted: int) -> None:
        """What the call puts out: an error, one object, or a stream."""
        self._output_tokens_wanted = output_tokens_wanted
        if streamed:
            await self._stream(out, renderer)
            return
        data = await out.take()
        if out.refusal:
            await self.error(out.refusal, self._about(out))
        elif data is not None:
            await self.whole(200, data, self._about(out))

    async def _stream(self, out: Outbox, renderer: Renderer) -> None:
        """Everything the call puts out, and signs of life while it puts out nothing."""
        with Vigil(out, renderer.beat, self._beat_s) as vigil:
            data = await out.take()
            if out.refusal:
                await self.error(out.refusal, self._about(out))
                return
            if data is not None:
                await self._start(200, renderer.content_type, _STREAMED + self._about(out))
            while data is not None:
                vigil.sends()
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
                vigil.waits()
                data = await out.take()
        if out.begun and not (out.gone or vigil.stalled):
            await self._send({"type": "http.response.body", "body": b""})

    def _about(self, out: Outbox) -> Headers:
        """Of an admitted call: its key's limits, its place in the line and, where the operator shows it, its way."""
        limits = headers.of_admission(out.admission, self._output_tokens_wanted)
        return limits + headers.of_place(out.place) + (headers.of_trip(out.trip) if self._routing_headers else [])

    async def _start(self, status: int, content_type: bytes, more: Headers) -> None:
        ids = [(name, self._call_id.encode()) for name in self._dialect.request_id_headers]
        own = [(b"content-type", content_type), *ids]
        await self._send({"type": "http.response.start", "status": status, "headers": own + more})
