"""Over one streamed answer: signs of life while nothing comes, and the end of a client that takes nothing.

One timer for both, which looks again when its time has come: what is sent in between costs no timer.
"""

import asyncio
from types import TracebackType

from gateway.cut import Cut
from gateway.outbox import Outbox

STALL_S = 60.0
"""how long a client may take nothing of a streamed answer before it counts as gone"""
LOOK_S_MIN = 0.001
"""between two looks, however little is left"""


class Vigil:
    """To be entered; the block ends, `stalled`, for a client that has taken nothing for STALL_S.

    `beat` is put into the outbox of an admitted call when nothing has come for `beat_s`; b"": never.
    """

    __slots__ = ("_beat", "_beat_s", "_loop", "_out", "_patience", "_sending", "_since_s", "_timer")

    def __init__(self, out: Outbox, beat: bytes, beat_s: float) -> None:
        self._out = out
        self._beat = beat
        self._beat_s = beat_s if beat else STALL_S
        self._loop = asyncio.get_running_loop()
        self._patience = Cut()
        self._timer = self._loop.call_later(self._beat_s, self._look)
        self._since_s = self._loop.time()
        self._sending = False

    def __enter__(self) -> "Vigil":
        self._patience.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        return self._patience.__exit__(kind, error, trace)

    @property
    def stalled(self) -> bool:
        return self._patience.caught

    def sends(self) -> None:
        """The client is being given something."""
        self._since_s, self._sending = self._loop.time(), True

    def waits(self) -> None:
        """It has taken that; what comes next is being made."""
        self._since_s, self._sending = self._loop.time(), False

    def _look(self) -> None:
        now_s = self._loop.time()
        idle_s = now_s - self._since_s
        if self._sending and idle_s >= STALL_S:
            self._patience.now()
            return
        if not self._sending and self._beat and idle_s >= self._beat_s:
            self._since_s = now_s
            if self._out.admission:
                self._out.put(self._beat)
        due_s = self._since_s + (STALL_S if self._sending else self._beat_s)
        self._timer = self._loop.call_later(max(min(due_s - now_s, self._beat_s), LOOK_S_MIN), self._look)
