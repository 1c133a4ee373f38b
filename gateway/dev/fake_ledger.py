"""What the fake Ollama has been asked and what became of it, for tests to read and to wait on."""

import asyncio
import itertools
import time
from collections import Counter, deque
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
    prompt_tokens: int = 0
    evaluated_tokens: int = 0
    """those of the prompt that were not in the model's cache"""
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
    counted_as: str = ""
    """the canonical name of its model, when the node has it and works for it"""
    ended: bool = False
    """not counted as open any more"""

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
        """requests for inference that run now, or wait in the node"""
        self.open_of: Counter[str] = Counter()
        """the same for each model"""
        self._leavers: dict[int, Callable[[], bool]] = {}
        self.watchers: set[asyncio.Event] = set()
        """set at every change"""
        self.clear()

    def clear(self) -> None:
        """Forget all exchanges. What is open now stays counted."""
        self.exchanges: deque[Exchange] = deque(maxlen=REQUESTS_MAX)
        self.received = 0
        self.peak = self.open
        self.peaks: Counter[str] = Counter(self.open_of)
        self.requests: Counter[str] = Counter()
        """by path, probes included, forgotten ones too"""
        self.loads: Counter[str] = Counter()
        """started loads of each model, given up or not"""
        self.loads_given_up: Counter[str] = Counter()
        """those whose client left"""
        self.unloads: Counter[str] = Counter()
        """asked for with keep_alive 0 and no prompt"""
        self.prompt_tokens = 0
        self.evaluated_tokens = 0
        self.tokens_sent = 0
        self.offers = 0
        """requests with the prompt that kills"""
        self.resets = 0
        """connections reset because the node was down"""

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that needed no evaluation."""
        return self.prompt_tokens - self.evaluated_tokens

    @property
    def inference(self) -> list[Exchange]:
        """Requests for inference alone, without the probes."""
        return [exchange for exchange in self.exchanges if exchange.path in INFERENCE]

    @property
    def left(self) -> list[Exchange]:
        """Those whose client did not wait for the end."""
        return [exchange for exchange in self.inference if exchange.disconnected_at]

    def begin(self, request: Request, left: Callable[[], bool]) -> Exchange:
        """`left`: whether its client has closed the connection by now. The peak leaves such out: a busy loop may read
        of a new request before it reads that an earlier one is over."""
        self.received += 1
        self.requests[request.path] += 1
        exchange = Exchange(id=next(self._ids), method=request.method, path=request.path, headers=request.headers)
        self.exchanges.append(exchange)
        if request.path in INFERENCE:
            self.open += 1
            self._leavers[exchange.id] = left
            if self.open > self.peak:
                self.peak = max(self.peak, sum(not left() for left in self._leavers.values()))
        self.touch()
        return exchange

    def works_for(self, exchange: Exchange, model: str) -> None:
        """A request for inference has turned out to be for this model."""
        if not exchange.ended:
            exchange.counted_as = model
            self.open_of[model] += 1
            self.peaks[model] = max(self.peaks[model], self.open_of[model])
            self.touch()

    def evaluated(self, exchange: Exchange, prompt_tokens: int, evaluated_tokens: int) -> None:
        exchange.prompt_tokens, exchange.evaluated_tokens = prompt_tokens, evaluated_tokens
        self.prompt_tokens += prompt_tokens
        self.evaluated_tokens += evaluated_tokens

    def sent(self, exchange: Exchange, tokens: int) -> None:
        """A chunk has left."""
        exchange.tokens_sent += tokens
        exchange.chunks_sent += 1
        self.tokens_sent += tokens
        self.touch()

    def left_by_client(self, exchange: Exchange, backed_up: bool) -> None:
        if exchange.disconnected_at is None and not exchange.completed:
            exchange.backed_up = backed_up
            exchange.disconnected_at = time.time()
        self.end(exchange)

    def end(self, exchange: Exchange) -> None:
        """It runs no more; saying so twice does no harm."""
        if not exchange.ended and exchange.path in INFERENCE:
            self.open -= 1
            del self._leavers[exchange.id]
            if exchange.counted_as:
                self.open_of[exchange.counted_as] -= 1
        exchange.ended = True
        self.touch()

    def reset(self) -> None:
        """A connection was reset because the node was down."""
        self.resets += 1
        self.touch()

    def connected(self, by: int) -> None:
        self.connections += by
        self.touch()

    def touch(self) -> None:
        """Wake whoever waits in `until`."""
        self._changed.set()
        self._changed.clear()
        for watcher in self.watchers:
            watcher.set()

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
        return self.counts() | {"requests": requests}

    def counts(self) -> dict[str, Any]:
        """As JSON gives it at GET /_fake/counts."""
        names = (
            "received", "open", "peak", "peaks", "connections", "loads", "loads_given_up", "unloads", "prompt_tokens",
            "evaluated_tokens", "tokens_sent", "offers", "resets",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"paths": self.requests}
