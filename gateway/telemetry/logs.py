"""Structured logs: one JSON object a line, on stderr. Callers pass fields by name; none is ever a key or a prompt."""

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import msgspec

FRAMES_MAX = 5


class Log:
    """Writes JSON lines. `clock_s` gives unix seconds."""

    def __init__(self, clock_s: Callable[[], float], out: TextIO | None = None, *, debug: bool = False) -> None:
        self._clock_s = clock_s
        self._out = out or sys.stderr
        self._debug = debug

    def info(self, event: str, **fields: Any) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)

    def surprise(self, event: str, error: BaseException, **fields: Any) -> None:
        """A bug: its type and where it happened, without its message, which may quote what must not be logged."""
        self._write("error", event, {**told_of(error), **fields})

    def debug(self, event: str, **fields: Any) -> None:
        if self._debug:
            self._write("debug", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        line = {"at": round(self._clock_s(), 3), "level": level, "event": event, **fields}
        with suppress(OSError):  # nobody reads any more; what it told of goes on
            self._out.write(msgspec.json.encode(line).decode() + "\n")


def told_of(error: BaseException) -> dict[str, Any]:
    """An error as fields of a line: its type and where it happened, file and line."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
    return {"error": type(error).__name__, "where": where}
