"""Whether the event loop still turns: a heart that beats on it, and a thread that listens.

Nothing on a stuck loop can tell that it is stuck, not even to a signal. So the thread ends the process, and whatever
supervises it starts another one. Where code computes without ever letting another thread run, the kernel ends the
process. Nothing sees code that keeps all threads from running and computes nothing.
"""

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from gateway.telemetry.logs import Log

BEAT_S = 0.1
LOOK_S = 0.5
LATE_S = 1.0
"""a loop that was busy with one thing for longer is told of"""
DEAD_S = 10.0
"""after such a silence the process ends"""
CPU_S = 20.0
"""of the process, after which the kernel ends it where not even the thread runs"""
LAST_WORD_S = 1.0
"""for the line that says so: what is stuck may be the log"""
EXIT_CODE = 70
CPU_EXIT_CODE = int(signal.SIGVTALRM)
"""when it was the kernel"""
FRAMES_MAX = 8
LAG_HALF_S = 30.0
"""how long a late beat is told of: for one to two of these"""


class Pulse:
    """`run` beats until it is cancelled. `end` ends the process with a code. `clock_s` is monotonic."""

    def __init__(
        self,
        log: Log,
        clock_s: Callable[[], float] = time.monotonic,
        *,
        dead_s: float = DEAD_S,
        cpu_s: float = CPU_S,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._log = log
        self._clock_s = clock_s
        self._dead_s = dead_s
        self._cpu_s = cpu_s
        self._end = end
        self._beats = 0
        self._lag_s = self._lag_before_s = 0.0
        self._half_until_s = clock_s() + LAG_HALF_S
        self._over = threading.Event()

    def largest_lag_s(self) -> float:
        """The longest that the loop was late in this half of the window and the one before, whoever asks."""
        return max(self._lag_s, self._lag_before_s)

    async def run(self) -> None:
        """Beat on the running loop, and be listened to."""
        listener = threading.Thread(target=self._listen, args=(threading.get_ident(),), name="pulse", daemon=True)
        self._over.clear()
        _end_with(signal.SIGVTALRM)
        listener.start()
        try:
            while True:
                due_s = self._clock_s() + BEAT_S
                await asyncio.sleep(BEAT_S)
                self._beat(due_s, self._clock_s())
        finally:
            self._over.set()
            listener.join()

    def _beat(self, due_s: float, now_s: float) -> None:
        self._beats += 1
        late_s = now_s - due_s
        if now_s >= self._half_until_s:
            self._lag_before_s, self._lag_s = self._lag_s, 0.0
            self._half_until_s = now_s + LAG_HALF_S
        self._lag_s = max(self._lag_s, late_s)
        if late_s > LATE_S:
            self._log.warning("loop_late", seconds=round(late_s, 2))

    def _listen(self, heart: int) -> None:
        """Counts looks and not seconds: a process that was stopped as a whole, or a machine that slept, is none."""
        silent, heard = 0, -1
        while not self._over.wait(LOOK_S):
            silent, heard = (silent + 1, heard) if heard == self._beats else (0, self._beats)
            if silent * LOOK_S >= self._dead_s:
                self._give_up(heart)
                return
            signal.setitimer(signal.ITIMER_VIRTUAL, self._cpu_s)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _give_up(self, heart: int) -> None:
        """The line has a thread of its own, as the log may be what everything waits for."""
        speaker = threading.Thread(target=self._tell, args=(heart,), daemon=True)
        speaker.start()
        speaker.join(LAST_WORD_S)
        self._end(EXIT_CODE)

    def _tell(self, heart: int) -> None:
        """Where the loop is: file and line, never a value."""
        frames = traceback.extract_stack(sys._current_frames()[heart])[-FRAMES_MAX:]
        where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
        self._log.warning("loop_stuck", seconds=self._dead_s, where=where, exit_code=EXIT_CODE)


def _end_with(number: int) -> None:
    """Have the signal end the process at once, with its number for the exit code.

    The kernel's own way to end it spares the first process of a container, and a handler of Python's would wait for
    the interpreter: so the handler is C's `_exit`, which takes the number as its code.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(number, ctypes.cast(libc._exit, ctypes.c_void_p))
