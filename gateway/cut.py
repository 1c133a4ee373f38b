"""A block of a task that ends when somebody else says so, or after a time.

It is what asyncio's time-outs and anyio's scopes are, in a third of their time: every call enters several. Unlike
theirs, a cancellation is delivered once, so that what cleans up behind it may wait.
"""

import asyncio
from types import TracebackType


class Cut:
    """To be entered once. `seconds`: after so long it ends by itself; None: never. It must be left by the same task."""

    __slots__ = ("_cancelling", "_loop", "_seconds", "_struck", "_task", "_timer", "caught")

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._struck = False
        self.caught = False
        """whether the block was ended from outside; it ends quietly then"""

    def __enter__(self) -> "Cut":
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        assert task
        self._task, self._cancelling = task, task.cancelling()
        if self._seconds is not None:
            self._timer = self._loop.call_later(self._seconds, self._late)
        return self

    def now(self) -> None:
        """End the block, if it has not ended. Whoever is in it learns so where it waits next, and not before."""
        if self._task and not self._struck and asyncio.current_task(self._loop) is self._task:
            self._loop.call_soon(self.now)  # or what follows the block would be cancelled, should it end without a wait
        elif self._task and not self._struck:
            self._struck = True
            self._task.cancel()

    def _late(self) -> None:
        """What has come in time goes before, also where nobody has had the time to take it yet."""
        self._loop.call_soon(self.now)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if self._timer:
            self._timer.cancel()
        if self._struck and task and task.uncancel() <= self._cancelling:
            self.caught = isinstance(error, asyncio.CancelledError)
        return self.caught
