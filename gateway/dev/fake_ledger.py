"""What the fake Ollama has been asked and what became of it, for tests to read and to wait on."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.dev.fake_faults import INFERENCE
from gateway.dev.fake_http import Request

REQUESTS_MAX = 20_000
WAIT_S = 10.0


class Exchange(Struct, kw_only=True):
    """One request and its fate. Times are Unix seconds. Header names in lower case; `body` as decoded, or None."""

    id: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    received_at: float = field(default_factory=time.time)
    status: int | None = None
    tokens_sent: int = 0
    chunks_sent: int = 0
    completed: bool = False
    """everything that was to be sent has left"""
    dropped: bool = False
    """the fake closed the connection on purpose"""
    disconnected_at: float | None = None
    """the client left before the answer was complete"""
    backed_up: bool = False
    """it left while output was waiting for it: with a real Ollama that can leak a slot for good"""

    @property
    def model(self) -> str:
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""

    @property
    def keys(self) -> list[str]:
        return list(self.body) if isinstance(self.body, dict) else []

    @property
    def open(self) -> bool:
        return not (self.completed or self.dropped or self.disconnected_at)


class Ledger:
    """All exchanges in order, the oldest forgotten at last. Control requests (/_fake/…) are not among them."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._ids = itertools.count(1)
        self.connections = 0
        """held open by clients now, idle ones included"""
        self.open = 0
        """requests for inference that run now"""
        self.clear()

    def clear(self) -> None:
        """Forget all exchanges. What is open now stays counted."""
        self.exchanges: deque[Exchange] = deque(maxlen=REQUESTS_MAX)
        self.received = 0
        self.peak = self.open

    @property
    def inference(self) -> list[Exchange]:
        """Requests for inference alone, without the probes."""
        return [exchange for exchange in self.exchanges if exchange.path in INFERENCE]

    @property
    def left(self) -> list[Exchange]:
        """Those whose client did not wait for the end."""
        return [exchange for exchange in self.inference if exchange.disconnected_at]

    def begin(self, request: Request) -> Exchange:
        self.received += 1
        exchange = Exchange(id=next(self._ids), method=request.method, path=request.path, headers=request.headers)
        self.exchanges.append(exchange)
        if request.path in INFERENCE:
            self.open += 1
            self.peak = max(self.peak, self.open)
        self.touch()
        return exchange

    def end(self, exchange: Exchange) -> None:
        if exchange.path in INFERENCE:
            self.open -= 1
        self.touch()

    def connected(self, by: int) -> None:
        self.connections += by
        self.touch()

    def touch(self) -> None:
        """Wake whoever waits in `until`."""
        self._changed.set()
        self._changed.clear()

    async def until(self, predicate: Callable[["Ledger"], Any], timeout_s: float = WAIT_S) -> None:
        """Wait until `predicate(ledger)` holds; raises TimeoutError after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            while not predicate(self):
                await self._changed.wait()

    async def until_idle(self, timeout_s: float = WAIT_S) -> None:
        """Wait until no request for inference is open."""
        await self.until(lambda ledger: ledger.open == 0, timeout_s)

    def snapshot(self) -> dict[str, Any]:
        """As JSON gives it at GET /_fake/ledger."""
        requests = [msgspec.to_builtins(one) | {"model": one.model, "keys": one.keys} for one in self.exchanges]
        counts = {"received": self.received, "open": self.open, "peak": self.peak, "connections": self.connections}
        return counts | {"requests": requests}
