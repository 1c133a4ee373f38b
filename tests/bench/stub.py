"""The node that everything in the benchmark stands before: it answers as fast as Python can, and counts.

`python -m tests.bench.stub PORT MODEL...` serves until it is killed. Each model's name says how it answers.
"""

import asyncio
import re
import sys
import time
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

from gateway.cli import open_files
from tests.bench import answers
from tests.bench.answers import Format, format_of
from tests.bench.pacer import Pacer

HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 7))
"""it listens on all of these, so that it can be several nodes with slots of their own"""
BACKLOG_CONNECTIONS = 4_096
VERSION = b'{"version":"0.12.6"}'
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model" ?: ?"([^":]+)')
_WHOLE = re.compile(rb'"stream" ?: ?false')
_EVENTS = re.compile(rb'"stream" ?: ?true')
_MS_NS = 10**6


class Counts(Struct):
    """What GET /stats tells. Times are seconds of the clock that all processes share."""

    requests: int = 0
    chunks: int = 0
    connections: int = 0
    """accepted ever"""
    open: int = 0
    """answers under way"""
    aborted: int = 0
    """answers whose reader left before their end"""
    last_abort_s: float = 0.0


class Stub:
    """What all connections share."""

    def __init__(self, models: list[str]) -> None:
        self.models = models
        self.counts = Counts()
        self.pacer = Pacer()
        self._fixed = {
            b"/api/tags": answers.tags(models), b"/api/ps": answers.loaded(models), b"/api/version": VERSION,
        }  # fmt: skip

    def fixed(self, path: bytes) -> bytes | None:
        """What is answered at once at a path where no model works; None: one does."""
        if path == b"/stats":
            return msgspec.json.encode(self.counts)
        return self._fixed.get(path)


class Connection(asyncio.Protocol):
    """One connection of a client; it may carry any number of requests, one after another."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._counts = stub.counts
        self._pending = b""
        self._format: Format | None = None
        """of the answer under way"""
        self._left = 0
        self._received_ns = 0
        self._due_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._format:
            self._format = None
            self._counts.open -= 1
            self._counts.aborted += 1
            self._counts.last_abort_s = time.monotonic()

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(data, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(data) < whole:
                break
            self._request(data.split(b" ", 2)[1], data[end + 4 : whole])
            data = data[whole:]
        self._pending = data

    def _request(self, path: bytes, body: bytes) -> None:
        if (said := self._stub.fixed(path)) is not None:
            self._transport.write(answers.response(said))
            return
        found = _MODEL.search(body)
        try:
            model = found[1].decode() if found else ""
            if path == b"/api/show":
                self._transport.write(answers.response(answers.shown(model)))
                return
            self._answer(format_of(path, model), path, body)
        except ValueError:
            self._transport.write(answers.response(b'{"error":"model not found"}', b"404 Not Found"))

    def _answer(self, form: Format, path: bytes, body: bytes) -> None:
        self._counts.requests += 1
        self._counts.open += 1
        self._format = form
        self._received_ns = time.monotonic_ns()
        self._left = 0
        if path != b"/api/embed" and _streams(path, body):
            self._left = form.recipe.chunks
        self._due_ns = self._received_ns + form.recipe.first_ms * _MS_NS
        if form.recipe.first_ms:
            self._stub.pacer.at(self._due_ns, self._first)
        else:
            self._first()

    def _first(self) -> None:
        form = self._format
        if form is None:
            return
        if not self._left:
            self._end(answers.response(form.whole))
        elif not form.recipe.gap_ms:
            self._counts.chunks += self._left
            self._end(answers.stream_head(form.content_type) + form.burst)
        else:
            self._transport.write(answers.stream_head(form.content_type) + self._chunk(form))
            self._wait(form)

    def _next(self) -> None:
        form = self._format
        if form is None:
            return
        if self._left:
            self._transport.write(self._chunk(form))
            self._wait(form)
        else:
            self._end(answers.framed(form.last) + answers.END)

    def _chunk(self, form: Format) -> bytes:
        self._left -= 1
        self._counts.chunks += 1
        return form.chunk(self._received_ns, time.monotonic_ns())

    def _wait(self, form: Format) -> None:
        self._due_ns += form.recipe.gap_ms * _MS_NS
        self._stub.pacer.at(self._due_ns, self._next)

    def _end(self, rest: bytes) -> None:
        self._format = None
        self._counts.open -= 1
        self._transport.write(rest)


def _streams(path: bytes, body: bytes) -> bool:
    """Ollama streams unless told otherwise, OpenAI's API the other way round."""
    return bool(_EVENTS.search(body)) if path.startswith(b"/v1/") else not _WHOLE.search(body)


async def serve(port: int, models: list[str]) -> None:
    stub = Stub(models)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stub), HOSTS, port, backlog=BACKLOG_CONNECTIONS)
    await server.serve_forever()


if __name__ == "__main__":
    open_files.allow_all()
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
