"""One model in the memory of a fake node: its slots, its prompt cache, and until when it stays."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from gateway.dev.fake_models import Model
from gateway.dev.fake_prompts import Part, PromptCache
from gateway.dev.fake_times import keep_alive_s

CONTEXT_TOKENS = 8_192
_LOAD_TIME_OPTIONS = ("num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")


class Fit(Struct, frozen=True):
    """How a model is loaded. A request that wants it otherwise has it loaded again, for everybody."""

    context_tokens: int
    others: tuple[tuple[str, Any], ...] = ()


class Job(Struct, frozen=True, kw_only=True):
    """What a request wants of a model."""

    model: Model
    fit: Fit
    keep_alive: Any = None
    parts: list[Part] = []
    loads_only: bool = False
    cached: bool = False
    """whether its prompt can be: that of text, not of embeddings"""


def fit_of(model: Model, body: dict[str, Any]) -> Fit:
    """How a request wants its model loaded; what it does not say is the node's own setting."""
    options = body.get("options") or {}
    others = [(name, options[name]) for name in _LOAD_TIME_OPTIONS if name in options]
    others += [("shift", body["shift"])] if "shift" in body else []
    return Fit(min(int(options.get("num_ctx") or CONTEXT_TOKENS), model.context_tokens), tuple(others))


class Runner:
    """A loaded model. `calls` are those that hold it in memory, waiting ones included."""

    def __init__(self, model: Model, fit: Fit) -> None:
        self.model = model
        self.fit = fit
        self.cache = PromptCache()
        self.calls = 0
        self._keep_alive_s = keep_alive_s(None)
        self.until = datetime.now(UTC)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def over(self) -> bool:
        """Nobody holds it and its time has passed."""
        return not self.calls and self.until <= datetime.now(UTC)

    def stay(self, keep_alive: Any = None) -> None:
        """From now on for its keep_alive; the last one given counts for later callers too."""
        if keep_alive is not None:
            self._keep_alive_s = keep_alive_s(keep_alive)
        self.until = datetime.now(UTC) + timedelta(seconds=self._keep_alive_s)

    @asynccontextmanager
    async def slot(self, parallel: int | None) -> AsyncIterator[None]:
        """One of its slots, in the order of asking."""
        if self._waiting or (parallel is not None and self._running >= parallel):
            await self._turn()
        else:
            self._running += 1
        try:
            yield
        finally:
            self._leave()

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:  # the slot was handed over in this very moment
                self._leave()
            raise

    def _leave(self) -> None:
        """Hand the slot over to who waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
