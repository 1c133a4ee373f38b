"""Rows as CSV (RFC 4180), for spreadsheets, which take a text for a formula when it begins like one. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

DECIMALS_MAX = 6
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""how a formula begins, also in full-width signs; OWASP's list"""


def text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A line for the head and one for each row. Numbers stay numbers; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{DECIMALS_MAX}f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return str(value)
    shown = str(value)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
