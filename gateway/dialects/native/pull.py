"""The progress of a pull: a backend's lines at /api/pull, and how few of them a client needs."""

import msgspec
from msgspec import Struct

from gateway.dialects.ollama_faults import shown
from gateway.errors import BackendFault, GatewayError

GAP_MS_MIN = 100
"""between two lines that differ in bytes alone"""
SUCCESS = "success"


class Progress(Struct, frozen=True, omit_defaults=True):
    """How far a pull has come; `total` and `completed` are bytes of the part named by `digest`."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0


class _Line(Progress, frozen=True, omit_defaults=True):
    error: str | None = None


_line = msgspec.json.Decoder(_Line)


def encode(model: str) -> bytes:
    """The request. That a registry need not be who it says it is (`insecure`) is never asked for."""
    return msgspec.json.encode({"model": model, "stream": True})


def read(line: bytes) -> Progress:
    """One line. Raises `BackendFault` with the reason it gives, or for what is no such line."""
    try:
        said = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BackendFault("The model server sent something that is not a pull's progress.") from None
    if said.error is not None:
        raise refusal(said.error)
    return Progress(said.status, said.digest, said.total, said.completed)


def refusal(reason: str) -> GatewayError:
    return BackendFault(f"The model server could not pull it: {shown(reason)}")


class Pace:
    """Lets through what is new, and of what repeats itself a line every GAP_MS_MIN."""

    def __init__(self) -> None:
        self._last = Progress()
        self._sent_ms = 0

    def due(self, progress: Progress, now_ms: int) -> bool:
        repeats = (progress.status, progress.digest) == (self._last.status, self._last.digest)
        if repeats and now_ms - self._sent_ms < GAP_MS_MIN:
            return False
        self._last, self._sent_ms = progress, now_ms
        return True
