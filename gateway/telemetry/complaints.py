"""What libraries log by Python's logging, as lines of our own: JSON, of bounded length, and each kind seldom."""

import logging
import sys

from gateway.telemetry.logs import told_of
from gateway.telemetry.seldom import Seldom

REASON_CHARS_MAX = 200
EVERYBODY = ""
"""the name of the root logger: whatever no other handler has taken"""


class Complaints(logging.Handler):
    """Says as `event` what the loggers below the name `of` warn of.

    Without the record's arguments and errors' messages, which may name addresses and quote requests or answers.
    """

    def __init__(self, event: str, of: str, seldom: Seldom) -> None:
        super().__init__(logging.WARNING)
        self._event = event
        self._seldom = seldom
        self._logger = logging.getLogger(of or None)

    def listen(self) -> None:
        self._logger.propagate = False
        self._logger.addHandler(self)

    def ignore(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else sys.exception()
        told = told_of(error) if error else {}
        kind = " ".join((f"{record.name}:{record.lineno}", *([told["error"]] if error else [])))
        self._seldom.warning(self._event, kind, reason=_reason(record.msg), **told)


def _reason(text: object) -> str:
    """Its first line: what follows is a traceback or somebody's representation, with values. An error has no text."""
    if isinstance(text, str):
        return text.strip().partition("\n")[0][:REASON_CHARS_MAX]
    return str(getattr(text, "strerror", None) or type(text).__name__)[:REASON_CHARS_MAX]
