"""Warnings that would come with every call: each kind once a minute is enough."""

from collections.abc import Callable
from typing import Any

from gateway.telemetry.logs import Log

REST_S = 60.0
KINDS_MAX = 100


class Seldom:
    """Says a warning unless it has said one of that kind a minute ago or less. `clock_s` is monotonic."""

    def __init__(self, log: Log, clock_s: Callable[[], float]) -> None:
        self._log = log
        self._clock_s = clock_s
        self._said_s: dict[str, float] = {}

    def warning(self, event: str, kind: str, **fields: Any) -> None:
        now_s, said_s = self._clock_s(), self._said_s.get(kind)
        if said_s is not None and now_s - said_s < REST_S:
            return
        if len(self._said_s) >= KINDS_MAX:
            self._said_s.clear()
        self._said_s[kind] = now_s
        self._log.warning(event, kind=kind, **fields)
