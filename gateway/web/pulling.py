"""The answer to a request to pull: the pulls of all backends at once, and what is told of them."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import msgspec
from msgspec import Struct

from gateway.core.routing import Backend
from gateway.dialects.native.pull import Pace, Progress
from gateway.errors import BackendFault, GatewayError, Overloaded
from gateway.ports import Library

REQUESTS_MAX = 4
"""for pulls at once, to one replica"""
LINES_WAITING_MAX = 1_000
"""for a client that reads slowly; the oldest are dropped, for the next say more"""
QUIET_S = 15.0
"""after which the last line is sent again, so that no proxy takes the connection for dead"""
WAITING = "waiting"
"""the status of a backend that has said nothing yet"""
STALL_S = 60.0
"""how long a client may take nothing before it counts as gone"""


class PullProgress(Struct, frozen=True, omit_defaults=True):
    """A line: how far one backend has come. `total` and `completed` are bytes of the part named by `digest`."""

    backend: str
    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0


class PullResult(Struct, frozen=True):
    """The last line, or the whole answer: the backends that have it now, and why the others have not."""

    done: bool
    pulled: list[str]
    failed: dict[str, str]


class PullDeps(Struct, kw_only=True):
    """What the route needs. `running` counts the requests that are being answered."""

    library: Library
    snapshot: Callable[[], list[Backend]]
    registries: tuple[str, ...]
    allow_cloud: bool
    clock_ms: Callable[[], int]
    new_id: Callable[[], str]
    running: int = 0


class Pulling:
    """The answer to one request: pulls, and what is told of them."""

    def __init__(self, deps: PullDeps, model: str, backends: list[str], *, streamed: bool) -> None:
        self._deps = deps
        self._model = model
        self._backends = backends
        self._streamed = streamed
        self._lines: deque[bytes] = deque(maxlen=LINES_WAITING_MAX)
        self._last = _line(PullProgress(backends[0], WAITING))
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._pulled: list[str] = []
        self._failed: dict[str, str] = {}

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """A client that leaves, or takes nothing for STALL_S, cancels the pulls. Raises when all of them failed."""
        if self._deps.running >= REQUESTS_MAX:
            raise Overloaded("This replica answers as many pulls as it can. Try again when one of them has ended.")
        self._deps.running += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope.cancel)
                tasks.start_soon(self._pull_all)
                await (self._stream(send) if self._streamed else self._over.wait())
                tasks.cancel_scope.cancel()
        finally:
            self._deps.running -= 1
        if self._over.is_set() and not self._streamed:
            await self._whole(send)

    async def _whole(self, send: Any) -> None:
        if not self._pulled:
            reasons = "; ".join(f"{backend}: {why}" for backend, why in self._result().failed.items())
            raise BackendFault(f"No backend could pull the model. {reasons}")
        await self._start(send, b"application/json")
        await send({"type": "http.response.body", "body": msgspec.json.encode(self._result())})

    async def _stream(self, send: Any) -> None:
        await self._start(send, b"application/x-ndjson")
        with suppress(TimeoutError):
            while self._lines or not self._over.is_set():
                if data := await self._next():
                    await _send(send, data)
            await _send(send, _line(self._result()))
            await send({"type": "http.response.body", "body": b""})

    async def _pull_all(self) -> None:
        async with anyio.create_task_group() as pulls:
            for backend in self._backends:
                pulls.start_soon(self._pull, backend)
        self._over.set()
        self._news.set()

    async def _pull(self, backend: str) -> None:
        pace = Pace()
        try:
            async with aclosing(self._deps.library.pull(backend, self._model)) as steps:
                async for step in steps:
                    if pace.due(step, self._deps.clock_ms()):
                        self._tell(backend, step)
        except GatewayError as error:
            self._failed[backend] = error.message
            return
        self._pulled.append(backend)

    def _tell(self, backend: str, step: Progress) -> None:
        self._last = _line(PullProgress(backend, step.status, step.digest, step.total, step.completed))
        self._lines.append(self._last)
        self._news.set()

    async def _next(self) -> bytes:
        """The lines that are waiting, once there are any or all is over; the last one again after QUIET_S."""
        try:
            async with asyncio.timeout(QUIET_S):
                await self._news.wait()
        except TimeoutError:
            return self._last
        self._news.clear()
        lines = b"".join(self._lines)
        self._lines.clear()
        return lines

    def _result(self) -> PullResult:
        return PullResult(True, sorted(self._pulled), dict(sorted(self._failed.items())))

    async def _start(self, send: Any, content_type: bytes) -> None:
        told = [(b"content-type", content_type), (b"x-request-id", self._deps.new_id().encode())]
        more = [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": told + more})


def _line(said: Struct) -> bytes:
    return msgspec.json.encode(said) + b"\n"


async def _send(send: Any, data: bytes) -> None:
    async with asyncio.timeout(STALL_S):
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Any, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()
