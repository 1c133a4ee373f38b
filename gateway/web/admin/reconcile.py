"""The route that proves the credits: grants, usage rows, waiting events and Redis' balances side by side."""

from typing import Literal

from litestar import get
from msgspec import Struct

from gateway.core import pricing
from gateway.core.books import Difference, Owner
from gateway.web.admin.deps import Requested, deps_of

SHOWN_MAX = 1_000


class DifferenceView(Struct, kw_only=True):
    """Where two ledgers of one key or team disagree, in credits. `found` is null where nothing is there.

    `grants`: its row says another sum than its grants have; `granted`: Redis was told another sum than its row says;
    `charged`: Redis has charged something else than its calls cost.
    """

    key_id: str | None
    team_id: str | None
    what: Literal["grants", "granted", "charged"]
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

    `events`: of calls that are no rows yet. `complete`: whether all of these could be read; else nothing is proved.
    """

    agrees: bool
    complete: bool
    keys: int
    teams: int
    events: int
    differing: int
    differences: list[DifferenceView]
    overdrawn: list[OverdrawnView]


@get("/credits/reconcile")
async def reconcile(request: Requested) -> Reconciliation:
    report = await deps_of(request).reconciler.run()
    return Reconciliation(
        agrees=report.agrees,
        complete=report.complete,
        keys=report.keys,
        teams=report.teams,
        events=report.events,
        differing=len(report.differences),
        differences=[_view(difference) for difference in report.differences[:SHOWN_MAX]],
        overdrawn=[
            OverdrawnView(**_named(one.owner), balance=pricing.credits(one.balance_micro))
            for one in report.overdrawn[:SHOWN_MAX]
        ],
    )


def _view(difference: Difference) -> DifferenceView:
    return DifferenceView(
        **_named(difference.owner),
        what=difference.what,
        expected=pricing.credits(difference.expected_micro),
        found=None if difference.found_micro is None else pricing.credits(difference.found_micro),
    )


def _named(owner: Owner) -> dict[str, str | None]:
    return {"key_id": owner.id if owner.kind == "key" else None, "team_id": owner.id if owner.kind == "team" else None}
