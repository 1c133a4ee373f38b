"""How long several steps may take together."""

from collections.abc import Callable


class Deadline:
    """Counts `seconds` from when it is first asked. `clock_s` is monotonic."""

    def __init__(self, seconds: float, clock_s: Callable[[], float], *, least_s: float) -> None:
        """`least_s` is what each step has, however long those before it took."""
        self._seconds = seconds
        self._clock_s = clock_s
        self._least_s = least_s
        self._until_s: float | None = None

    def left_s(self) -> float:
        now_s = self._clock_s()
        if self._until_s is None:
            self._until_s = now_s + self._seconds
        return max(self._least_s, self._until_s - now_s)
