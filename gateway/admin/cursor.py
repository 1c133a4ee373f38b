"""Cursors: where the next page begins, as a text that means nothing to clients. Pure."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.admin.author import Page
from gateway.admin.moment import US_MAX
from gateway.errors import BadRequest

PAGE_ROWS = 500
"""the longest page"""
CURSOR_CHARS_MAX = 300
ID_CHARS_MAX = 128
NUMBER_MAX = 2**63 - 1
"""the largest id of a row that is a number"""

Row = TypeVar("Row")
Item = TypeVar("Item")


def rows(limit: int) -> int:
    """How many rows a page of `limit` has."""
    return max(1, min(limit, PAGE_ROWS))


def page(
    found: Sequence[Row], limit: int, item: Callable[[Row], Item], place: Callable[[Row], tuple[int, str]]
) -> Page[Item]:
    """A page out of one row more than it has, where there is one."""
    kept = found[:limit]
    after = write(*place(kept[-1])) if len(found) > limit else None
    return Page([item(row) for row in kept], after)


def write(at_us: int, id_: str) -> str:
    return urlsafe_b64encode(f"{at_us} {id_}".encode()).decode().rstrip("=")


def read(cursor: str | None, first: tuple[int, str]) -> tuple[int, str]:
    """Microseconds since 1970 and the id that `write` was given; `first` where there is no cursor.

    Raises `BadRequest`.
    """
    if cursor is None:
        return first
    try:
        if len(cursor) > CURSOR_CHARS_MAX:
            raise ValueError
        us, space, id_ = urlsafe_b64decode(cursor.encode("ascii") + b"==").decode("ascii").partition(" ")
        if not (us.isdigit() and space and id_.isprintable() and 0 < len(id_) <= ID_CHARS_MAX and int(us) <= US_MAX):
            raise ValueError
    except (ValueError, Error):
        raise false() from None
    return int(us), id_


def number(cursor: str | None, first: int) -> int:
    """The number that `write` was given as the id; `first` where there is no cursor. Raises `BadRequest`."""
    _, id_ = read(cursor, (0, str(first)))
    if not id_.isdigit() or int(id_) > first:
        raise false()
    return int(id_)


def false() -> BadRequest:
    return BadRequest("This cursor is none that the gateway has given out.", param="after")
