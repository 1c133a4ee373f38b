"""The operations on usage of the admin API, as the OpenAPI document describes them."""

from functools import partial
from typing import Any

from gateway.admin.usage import GROUPS_MAX
from gateway.core.grouping import GROUPS as BY
from gateway.core.grouping import HOURS_SPAN_DAYS_MAX, SPAN_DAYS_MAX
from gateway.state.dead import REPLAYED_MAX
from gateway.web.admin import dead, usage
from gateway.web.admin.query import PAGE, PAGE_MAX
from gateway.web.operation import Operation, Parameter
from gateway.web.schema.admin_examples import KEY_ID, NODE, TEAM_ID
from gateway.web.schema.examples import MODEL

LOOKS = (400, 401, 429, 500, 503)
_admin = partial(Operation, tag="admin", access="admin")


def _asked(name: str, example: Any, about: str, **schema: Any) -> Parameter:
    return Parameter(name, "query", example, about, schema or {"type": "string"})


_SPAN = (
    _asked("from", "2026-11-01", "The first day, as 2026-11-01, or hour, as 2026-11-01T09:00Z; default: this month's."),
    _asked("to", "2026-12-01", "The day or hour before which it ends; default: the end of this month."),
)
_GROUPS = _asked("group_by", "day,model", f"One or more of {', '.join(BY)}, with commas between; default: day.")
_FILTERS = (
    _asked("key_id", KEY_ID, "Calls of that key."),
    _asked("team_id", TEAM_ID, "Calls of keys that were in that team then."),
    _asked("model", MODEL, "Calls to that model."),
    _asked("backend", NODE, "Calls that ended on that node."),
    _asked("status", "ok", "Calls that ended so: ok, client_gone, or the code of an error."),
)
_FORM = (
    _asked("format", "json", "json or csv; without it, `Accept: text/csv` asks for CSV.", enum=["json", "csv"]),
    _asked(
        "limit", usage.GROUPS, "How many groups at most.",
        type="integer", minimum=1, maximum=GROUPS_MAX, default=usage.GROUPS,
    ),
)  # fmt: skip

_PAGE = (
    _asked("after", "", "`next` of the page before."),
    _asked(
        "limit", PAGE, "The longest page that is wanted.", type="integer", minimum=1, maximum=PAGE_MAX, default=PAGE
    ),
)

USAGE: tuple[Operation, ...] = (
    _admin(
        method="get", path="/admin/usage", id="reportUsage", summary="What was used: sums by whatever is named",
        about="All times are UTC, and calls are a second or two behind. A report spans "
        f"{SPAN_DAYS_MAX:,} days at most; one of hours, or from or to an hour within a day, spans "
        f"{HOURS_SPAN_DAYS_MAX}, and is refused where hours are no longer kept. As CSV it is a file to save, in which "
        "texts that begin like a formula have a ' before them; its header `x-truncated` says whether there are more "
        "groups.",
        parameters=(*_SPAN, _GROUPS, *_FILTERS, *_FORM), answer=usage.UsageGroups, sheet=True,
        errors=LOOKS,
    ),
    _admin(
        method="get", path="/admin/usage/dead", id="listDeadUsage",
        summary="Events that no usage row could be made of, and why", parameters=_PAGE,
        about="Their calls are charged. Each stays until it is replayed and becomes a row.",
        answer=dead.DeadList, errors=LOOKS,
    ),
    _admin(
        method="post", path="/admin/usage/replay", id="replayUsage",
        summary="Put dead events back, so that a worker tries them again",
        about=f"Up to {dead.IDS_MAX:,} by their ids, or {REPLAYED_MAX:,} of all; `left` says how many there are still. "
        "An event makes one row however often it is replayed; what is still wrong with one makes it dead again. With "
        "an `Idempotency-Key`, the same request sent again within a day is not carried out again.",
        request=dead.Replay, example={"all": True}, answer=dead.ReplayedView, errors=(*LOOKS, 409, 413),
    ),
)  # fmt: skip
