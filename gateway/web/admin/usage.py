"""The route of reports: what was used, by whatever it is asked for, as JSON or as a sheet."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from litestar import Response, get
from litestar.params import FromQuery, QueryParameter
from msgspec import UNSET, Struct, UnsetType, field

from gateway.admin.usage import GROUPS_MAX, Report
from gateway.core import grouping, sheet
from gateway.core.grouping import Asked
from gateway.web.admin.deps import Requested, deps_of

GROUPS = 1_000
Groups = Annotated[int, QueryParameter(ge=1, le=GROUPS_MAX)]
JSON, CSV = "application/json", "text/csv"
CSV_TYPE = f"{CSV}; charset=utf-8; header=present"
TRUNCATED = "x-truncated"


class UsageGroup(Struct, kw_only=True):
    """Sums of one group. Of what names it, only that is there by which it was asked to be grouped.

    `failed_calls`: those that ended otherwise than `ok`; `estimated_calls`: those whose tokens were counted by the
    gateway; `queue_seconds`: waited for nodes; `gpu_seconds`: by the nodes' own account.
    """

    hour: datetime | UnsetType = UNSET
    day: date | UnsetType = UNSET
    month: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    key_label: str | UnsetType = UNSET
    team_id: str | UnsetType = UNSET
    team_label: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    backend: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    calls: int
    failed_calls: int
    estimated_calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    credits: float
    team_credits: float
    avg_response_seconds: float
    queue_seconds: float
    gpu_seconds: float


class UsageGroups(Struct, kw_only=True):
    """Groups by time, and of one time the most tokens first. `truncated`: there are more than `limit`."""

    since: datetime = field(name="from")
    to: datetime
    group_by: tuple[str, ...]
    data: list[UsageGroup]
    truncated: bool


@get("/usage")
async def usage(
    request: Requested,
    since: Annotated[str | None, QueryParameter(name="from")] = None,
    to: FromQuery[str | None] = None,
    group_by: FromQuery[str] = "day",
    key_id: FromQuery[str | None] = None,
    team_id: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    backend: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
    format: FromQuery[Literal["json", "csv"] | None] = None,
    limit: Groups = GROUPS,
) -> Response[Any]:
    deps = deps_of(request)
    first, end = grouping.span(datetime.fromtimestamp(deps.clock_s(), UTC), since, to)
    asked = Asked(
        since=first,
        until=end,
        group_by=grouping.grouped(group_by),
        key_id=key_id,
        team_id=team_id,
        model=model,
        backend=backend,
        status=status,
    )
    report = await deps.usage.report(grouping.checked(asked), limit)
    if (format or _wanted(request)) == "csv":
        return _sheet(asked, report)
    return Response(_groups(asked, report))


def _wanted(request: Requested) -> str:
    """JSON, unless the client would rather have CSV."""
    return "csv" if request.accept.best_match([JSON, CSV], JSON) == CSV else "json"


def _groups(asked: Asked, report: Report) -> UsageGroups:
    return UsageGroups(
        since=asked.since,
        to=asked.until,
        group_by=asked.group_by,
        data=[UsageGroup(**group) for group in report.groups],
        truncated=report.truncated,
    )


def _sheet(asked: Asked, report: Report) -> Response[bytes]:
    names = grouping.columns(asked.group_by)
    text = sheet.text(names, ([group[name] for name in names] for group in report.groups))
    name = f"usage-{asked.since:%Y%m%dT%H}-{asked.until:%Y%m%dT%H}.csv"
    headers = {
        "content-type": CSV_TYPE,
        "content-disposition": f'attachment; filename="{name}"',
        TRUNCATED: str(report.truncated).lower(),
    }
    return Response(text.encode(), headers=headers)
