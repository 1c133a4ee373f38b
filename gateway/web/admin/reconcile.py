"""The route that proves the accounts: grants, rows, their sums, waiting events and Redis' figures side by side."""

import re
from typing import Literal

from litestar import get
from litestar.params import FromQuery
from msgspec import Struct

from gateway.core import pricing
from gateway.core.books import Difference, Unit, What
from gateway.core.charges import Owner
from gateway.errors import BadRequest
from gateway.web.admin.deps import Requested, deps_of

_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])", re.ASCII)


class DifferenceView(Struct, kw_only=True):
    """Where two ledgers of one key or team disagree, in `unit`. `found` is null where nothing is there.

    `grants`: its row says another sum than its grants have; `granted`: Redis was told another sum than its row says;
    `charged`, `tokens`: Redis has counted something else than its calls took, ever and in the month; `daily`: the sums
    of days are not that of the month, or not what `day` has else; `hourly`, `rows`: these are not the sum of `day`.
    """

    key_id: str | None
    team_id: str | None
    what: What
    unit: Unit
    day: str | None
    expected: float
    found: float | None


class OverdrawnView(Struct, kw_only=True):
    """A key or team whose balance is below zero, in credits: some were taken back while a call came in."""

    key_id: str | None
    team_id: str | None
    balance: float


class Reconciliation(Struct, kw_only=True):
    """What was compared, and the differences that stayed: `differing` in all, of which the first are listed.

    `overdrawn`: the first balances below zero, a remark and no difference.

    `events`: of calls that are no rows yet. `dead`: events that are set aside, which were charged and are no rows: no
    difference. `complete`: whether all of these could be read; else nothing is proved. `rows`: whether the month still
    has its rows; else only its sums were compared.
    """

    month: str
    agrees: bool
    complete: bool
    rows: Literal["kept", "dropped"]
    keys: int
    teams: int
    events: int
    dead: int
    differing: int
    differences: list[DifferenceView]
    overdrawn: list[OverdrawnView]


@get("/reconcile")
async def reconcile(request: Requested, month: FromQuery[str | None] = None) -> Reconciliation:
    report = await deps_of(request).reconciler.run(None if month is None else _month(month))
    return Reconciliation(
        month=f"{report.month[:4]}-{report.month[4:]}",
        agrees=report.agrees,
        complete=report.complete,
        rows=report.rows,
        keys=report.keys,
        teams=report.teams,
        events=report.events,
        dead=report.dead,
        differing=report.differing,
        differences=[_view(difference) for difference in report.differences],
        overdrawn=[
            OverdrawnView(**_named(one.owner), balance=pricing.credits(one.balance_micro)) for one in report.overdrawn
        ],
    )


def _month(text: str) -> str:
    found = _MONTH.fullmatch(text)
    if found is None:
        raise BadRequest("Write the month as 2026-11.", param="month")
    return found[1] + found[2]


def _view(difference: Difference) -> DifferenceView:
    scaled = pricing.credits if difference.unit == "credits" else int
    return DifferenceView(
        **_named(difference.owner),
        what=difference.what,
        unit=difference.unit,
        day=difference.day,
        expected=scaled(difference.expected),
        found=None if difference.found is None else scaled(difference.found),
    )


def _named(owner: Owner) -> dict[str, str | None]:
    return {"key_id": owner.id if owner.kind == "key" else None, "team_id": owner.id if owner.kind == "team" else None}
