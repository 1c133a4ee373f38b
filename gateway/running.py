"""The calls of this replica as tasks: whoever started them, they are owned here until they have settled."""

import asyncio
from collections.abc import Coroutine

from gateway.errors import Draining
from gateway.outbox import Outbox


class Running:
    """Owns a task for each call, so that no cancelled connection takes its settlement with it."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[None], Outbox] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def start(self, call: Coroutine[None, None, None], out: Outbox) -> None:
        task = asyncio.get_running_loop().create_task(call, name="call")
        self._calls[task] = out
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        out = self._calls.pop(task)
        error = None if task.cancelled() else task.exception()
        if error or task.cancelled():
            out.fail()
        out.end()
        if error:
            asyncio.get_running_loop().call_exception_handler({"message": "a call failed", "exception": error})

    async def drain(self, seconds: float) -> int:
        """Wait for all calls, `seconds` at most. Returns how many still run."""
        if self._calls:
            await asyncio.wait(list(self._calls), timeout=seconds)
        return len(self._calls)

    def cut(self) -> None:
        """End every relay now; each call then tells its client so and settles what it has come to."""
        for out in list(self._calls.values()):
            out.cut(Draining())
