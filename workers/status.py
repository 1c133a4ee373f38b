"""What a worker says of itself over HTTP: /metrics and /healthz. It knows no keys, and asks nobody for one."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec

from gateway.telemetry.metrics import CONTENT_TYPE
from gateway.telemetry.worker import WorkerMetrics
from workers.loop import Loop

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Reply = tuple[int, str, bytes]
"""status, content type, body"""


class Status:
    """An ASGI application."""

    def __init__(self, loops: Sequence[Loop], metrics: WorkerMetrics) -> None:
        self._loops = loops
        self._metrics = metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: object, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, content_type, body = self._reply(scope["method"], scope["path"])
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _reply(self, method: str, path: str) -> Reply:
        if method not in ("GET", "HEAD"):
            return _json(405, {"error": "A worker is only asked with GET."})
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._metrics.expose()
        if path == "/healthz":
            hanging = [loop.name for loop in self._loops if loop.hangs]
            return _json(503 if hanging else 200, {"status": "hangs" if hanging else "ok", "loops": hanging})
        return _json(404, {"error": "A worker has /metrics and /healthz."})


def _json(status: int, answer: object) -> Reply:
    return status, "application/json", msgspec.json.encode(answer)
