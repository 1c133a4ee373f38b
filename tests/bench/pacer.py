"""Calls at exact times. The loop's own timers are as coarse as a millisecond: chunks of many streams would leave in
bunches, and whoever relays them would be woken once for several."""

import asyncio
import ctypes
import heapq
import os
import time
from collections.abc import Callable
from itertools import count

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1
_SECOND_NS = 10**9
_Times = ctypes.c_long * 4
"""interval and value, each as seconds and nanoseconds"""


class Pacer:
    """Calls back in order of time, on one timer of Linux. `close` it at the end."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "this system has no timers of Linux")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._due)
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._set_ns = 0

    def at(self, when_ns: int, call: Callable[[], None]) -> None:
        """Call it when `time.monotonic_ns()` has come to `when_ns`; never before this returns."""
        heapq.heappush(self._waiting, (when_ns, next(self._order), call))
        if self._waiting[0][0] == when_ns:
            self._set(when_ns)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _set(self, when_ns: int) -> None:
        if when_ns != self._set_ns:
            self._set_ns = when_ns
            seconds, nanoseconds = divmod(max(when_ns, 1), _SECOND_NS)
            times = _Times(0, 0, seconds, nanoseconds)
            self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(times), None)

    def _due(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was set anew since it rang
            return
        self._set_ns = 0
        while self._waiting and self._waiting[0][0] <= time.monotonic_ns():
            heapq.heappop(self._waiting)[2]()
        if self._waiting:
            self._set(self._waiting[0][0])
