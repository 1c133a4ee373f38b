"""Aligned columns for people, of texts that others have made."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

CELL_CHARS_MAX = 48
NOTHING = "-"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, chars_max: int = CELL_CHARS_MAX) -> str:
    """Head and rows with columns as wide as their widest cell; a cell longer than `chars_max` is cut, with …."""
    lines = [list(head), *([_cut(cell, chars_max) for cell in row] for row in rows)]
    widths = [max(_columns(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell + " " * (width - _columns(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def record(pairs: Iterable[tuple[str, Any]]) -> str:
    """One thing, a line for each thing that is said of it."""
    rows = [(name, one) for name, value in pairs for name, one in _lines(name, value)]
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name.ljust(width)}  {text(one)}".rstrip() for name, one in rows)


def text(value: Any) -> str:
    """A value as a cell shows it: nothing is a dash, and nothing in it moves the terminal's cursor."""
    if value is None or value == "" or value == []:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        value = ", ".join(map(text, value))
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


def _lines(name: str, value: Any) -> list[tuple[str, Any]]:
    """A list of lines stands below one name."""
    if not isinstance(value, list) or not value:
        return [(name, value)]
    return [(name if number == 0 else "", one) for number, one in enumerate(value)]


def _cut(value: Any, chars_max: int) -> str:
    whole = text(value)
    return whole if len(whole) <= chars_max else f"{whole[: chars_max - 1]}…"


def _columns(cell: str) -> int:
    """How much room it takes: signs of East Asian scripts take two columns, marks above others none."""
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in cell)
