"""Commands that no connection has taken yet: a line, bounded by their number and their bytes."""

import asyncio
from collections import deque
from typing import Any

from gateway.state.wire import Asked, Batch, refuse

BATCH_COMMANDS_MAX = 16
WAITING_COMMANDS_MAX = 20_000
WAITING_BYTES_MAX = 67_108_864


class Unsent:
    """Whoever gives up, or leaves, stays in the line until it is looked through; what is taken is for the others."""

    def __init__(self) -> None:
        self._line: deque[Asked] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._line)

    def add(self, packed: bytes, reply: "asyncio.Future[Any]", since_s: float) -> bool:
        """Whether there was room."""
        size = self._bytes + len(packed)
        if size > WAITING_BYTES_MAX or len(self._line) >= WAITING_COMMANDS_MAX:
            return False
        self._bytes = size
        self._line.append((packed, reply, since_s))
        return True

    def take(self) -> Batch:
        """The next batch, without those whose caller has left or given up."""
        asked: list[Asked] = []
        while self._line and len(asked) < BATCH_COMMANDS_MAX:
            one = self._pop()
            if not one[1].done():
                asked.append(one)
        return Batch(asked)

    def refuse_until(self, until_s: float) -> float | None:
        """Refuse who has waited since then, or longer. Since when the first of the others waits."""
        while self._line:
            _, reply, since_s = self._line[0]
            if since_s > until_s and not reply.done():
                return since_s
            refuse(reply)
            self._pop()
        return None

    def refuse_all(self) -> None:
        while self._line:
            refuse(self._pop()[1])

    def _pop(self) -> Asked:
        one = self._line.popleft()
        self._bytes -= len(one[0])
        return one
