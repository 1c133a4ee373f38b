"""What a reconciliation has found."""

from typing import Literal

from msgspec import Struct

from gateway.core.books import Difference
from gateway.core.charges import Owner

LISTED_MAX = 1_000
"""differences, and balances below zero, of which a report tells more than their number"""


class Overdrawn(Struct, frozen=True):
    """A metered owner with a balance below zero: credits were taken back while a call came in. No difference."""

    owner: Owner
    balance_micro: int


class Report(Struct, frozen=True, kw_only=True):
    """How many keys and teams were compared, how many events waited, and what disagreed to the last look.

    `dead`: events that are set aside, which were charged but are no rows: no difference, but somebody's work.
    `complete`: whether all waiting events were read; else Redis may have counted more than its calls took.
    `rows`: whether the month still has its rows; else only its sums were compared.
    `differing`: how many differences there are, of which the first are in `differences`.
    """

    month: str
    """UTC, YYYYMM"""
    keys: int = 0
    teams: int = 0
    events: int = 0
    dead: int = 0
    complete: bool = True
    rows: Literal["kept", "dropped"] = "kept"
    differing: int = 0
    differences: tuple[Difference, ...] = ()
    overdrawn: tuple[Overdrawn, ...] = ()

    @property
    def agrees(self) -> bool:
        return self.complete and not self.differing

    def plus(self, other: "Report") -> "Report":
        return Report(
            month=self.month,
            keys=self.keys + other.keys,
            teams=self.teams + other.teams,
            events=max(self.events, other.events),
            dead=max(self.dead, other.dead),
            complete=self.complete and other.complete,
            rows="dropped" if "dropped" in (self.rows, other.rows) else "kept",
            differing=self.differing + other.differing,
            differences=(self.differences + other.differences)[:LISTED_MAX],
            overdrawn=(self.overdrawn + other.overdrawn)[:LISTED_MAX],
        )
