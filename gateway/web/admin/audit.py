"""The route of the audit log."""

from datetime import datetime
from typing import Any

from litestar import get
from litestar.params import FromQuery
from msgspec import Struct

from gateway.admin.audit import AuditEntry
from gateway.web.admin.deps import Requested, deps_of
from gateway.web.admin.key_views import at
from gateway.web.admin.query import PAGE, Limit


class EntryView(Struct, kw_only=True):
    """A change: who made it, in which request, and what was so before and after. null: it was, or is, not there."""

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str


class EntryList(Struct, kw_only=True):
    """A page of changes, newest first."""

    data: list[EntryView]
    next: str | None


@get("/audit")
async def audit(
    request: Requested,
    object: FromQuery[str | None] = None,
    action: FromQuery[str | None] = None,
    actor: FromQuery[str | None] = None,
    after: FromQuery[str | None] = None,
    limit: Limit = PAGE,
) -> EntryList:
    page = await deps_of(request).audit.page(object, action, actor, after, limit)
    return EntryList(data=[_view(entry) for entry in page.items], next=page.after)


def _view(entry: AuditEntry) -> EntryView:
    return EntryView(
        id=entry.id,
        at=at(entry.at_ms),
        actor=entry.actor,
        action=entry.action,
        object=entry.object,
        before=entry.before,
        after=entry.after,
        request_id=entry.request_id,
    )
