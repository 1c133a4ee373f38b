"""What a report on usage is of: a span of UTC hours, what its sums are grouped by, and whose calls count. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from gateway.errors import BadRequest

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "hour": ("hour",),
    "day": ("day",),
    "month": ("month",),
    "key": ("key_id", "key_label"),
    "team": ("team_id", "team_label"),
    "model": ("model",),
    "backend": ("backend",),
    "status": ("status",),
}
"""by what sums are grouped, and the columns that name such a group"""
SUMS = (
    "calls",
    "failed_calls",
    "estimated_calls",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "credits",
    "team_credits",
    "avg_response_seconds",
    "queue_seconds",
    "gpu_seconds",
)
SPAN_DAYS_MAX = 3_660
HOURS_SPAN_DAYS_MAX = 92
"""of a report that is made of hours"""
FIRST_YEAR = 1970
_HOUR = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::00(?::00)?)?(?:Z|\+00:00)?)?", re.ASCII)


class Asked(Struct, frozen=True, kw_only=True):
    """Calls from the hour `since` up to before the hour `until` that fit the filters; None: all do."""

    since: datetime
    until: datetime
    group_by: tuple[str, ...]
    key_id: str | None = None
    team_id: str | None = None
    model: str | None = None
    backend: str | None = None
    status: str | None = None

    @property
    def by_hours(self) -> bool:
        """Whether sums of days do not suffice."""
        return "hour" in self.group_by or any(at.hour for at in (self.since, self.until))


def columns(group_by: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a report: what names a group, in the order that was asked for, and its sums."""
    return (*(name for group in group_by for name in GROUPS[group]), *SUMS)


def grouped(text: str) -> tuple[str, ...]:
    """Of names with commas between. Raises `BadRequest`."""
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(GROUPS):
        raise BadRequest(f"Group by one or more of {', '.join(GROUPS)}, with commas between.", param="group_by")
    return names


def span(now: datetime, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    """The hours from `since` up to before `until`; by default all of this month. Raises `BadRequest`."""
    this_month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    first = this_month if since is None else _hour(since, "from")
    end = (this_month + timedelta(days=31)).replace(day=1) if until is None else _hour(until, "to")
    if end <= first:
        raise BadRequest("The report would end before it begins: `to` has to be later than `from`.", param="to")
    return first, end


def checked(asked: Asked) -> Asked:
    """The same. Raises `BadRequest` for a span that is too long."""
    days_max = HOURS_SPAN_DAYS_MAX if asked.by_hours else SPAN_DAYS_MAX
    if asked.until - asked.since > timedelta(days=days_max):
        what = "hours" if asked.by_hours else "days"
        raise BadRequest(f"A report on {what} spans {days_max:,} days at most.", param="from")
    return asked


def _hour(text: str, param: str) -> datetime:
    found = _HOUR.fullmatch(text)
    try:
        if not found:
            raise ValueError
        at = datetime.fromisoformat(found[1]).replace(hour=int(found[2] or 0), tzinfo=UTC)
        if at.year < FIRST_YEAR:
            raise ValueError
    except ValueError:
        raise BadRequest(
            "Write a day as 2027-01-31 or a whole hour as 2027-01-31T09:00Z; all times are UTC.", param=param
        ) from None
    return at
