"""The way of an answer from its outbox to its client's connection."""

import asyncio
from typing import Any

from gateway.dialects.asked import Dialect, Renderer
from gateway.errors import GatewayError
from gateway.outbox import Outbox
from gateway.web import headers
from gateway.web.headers import Headers

STALL_S = 60.0
"""how long a client may take nothing of a streamed answer before it counts as gone"""
_STREAMED: Headers = [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


class Reply:
    """Sends the answer to one request. Every answer carries the call's id and the limits, where they are known."""

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
        beat = renderer.beat if streamed else b""
        first = await self._next(out, beat)
        if out.refusal:
            await self.error(out.refusal, self._about(out))
        elif first is not None and streamed:
            await self._start(200, renderer.content_type, _STREAMED + self._about(out))
            await self._stream(out, first, beat)
        elif first is not None:
            await self.whole(200, first, self._about(out))

    async def _next(self, out: Outbox, beat: bytes) -> bytes | None:
        """What is waiting next. When nothing comes for so long, an admitted call's client gets a sign of life."""
        while beat:
            try:
                async with asyncio.timeout(self._beat_s):
                    return await out.take()
            except TimeoutError:
                if out.admission:
                    out.put(beat)
        return await out.take()

    async def _stream(self, out: Outbox, first: bytes, beat: bytes) -> None:
        """Everything the call puts out. A client that takes nothing for STALL_S is cut off."""
        data: bytes | None = first
        try:
            while data is not None:
                async with asyncio.timeout(STALL_S):
                    await self._send({"type": "http.response.body", "body": data, "more_body": True})
                data = await self._next(out, beat)
        except TimeoutError:
            return
        if not out.gone:
            await self._send({"type": "http.response.body", "body": b""})

    def _about(self, out: Outbox) -> Headers:
        """Of an admitted call: its key's limits, its place in the line and, where the operator shows it, its way."""
        limits = headers.of_admission(out.admission, self._output_tokens_wanted)
        return limits + headers.of_place(out.place) + (headers.of_trip(out.trip) if self._routing_headers else [])

    async def _start(self, status: int, content_type: bytes, more: Headers) -> None:
        ids = [(name, self._call_id.encode()) for name in self._dialect.request_id_headers]
        own = [(b"content-type", content_type), *ids]
        await self._send({"type": "http.response.start", "status": status, "headers": own + more})
