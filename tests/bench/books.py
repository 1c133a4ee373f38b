"""The run's own count of what it asked of the gateway, which rows in Postgres are compared with."""

from msgspec import Struct


class Books(Struct):
    """Calls whose answers clients got whole, and calls that they left before that."""

    answered: int = 0
    abandoned: int = 0

    def add(self, answered: int, abandoned: int) -> None:
        self.answered += answered
        self.abandoned += abandoned


class Rows(Struct, frozen=True):
    """Usage rows, those of them that are of good answers, and the calls that replicas say have ended."""

    rows: int
    good: int
    admitted: int


def disagreement(books: Books, rows: Rows) -> str:
    """Why these do not add up; "" if they do.

    What a client left may have been answered whole all the same, so there is some room between the two.
    """
    if rows.rows != rows.admitted:
        return f"{rows.rows} rows of {rows.admitted} admitted calls"
    if not books.answered <= rows.good <= books.answered + books.abandoned:
        return f"{rows.good} good rows of {books.answered} answers and {books.abandoned} that clients left"
    return ""
