"""The routes of dead events: what no usage row could be made of, and why; and once more."""

from datetime import datetime
from typing import Annotated

from litestar import get, post
from litestar.params import FromQuery, JSONBody
from msgspec import Meta, Struct

from gateway.admin import cursor
from gateway.errors import BadRequest
from gateway.state import dead as state
from gateway.state.dead import DeadEvent, Place
from gateway.web.admin.author import author_of
from gateway.web.admin.deps import Requested, deps_of
from gateway.web.admin.key_views import at
from gateway.web.admin.query import PAGE, Limit

IDS_MAX = 1_000
ID_CHARS_MAX = 64
Id = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
WHICH = "Send `ids`, or `all` as true, and not both."


class DeadView(Struct, kw_only=True):
    """An event that is charged, and no row yet. `reason`: why not; `died_at`: when that was found.

    `fields` are the event's own as they were written, long ones cut; `others`: how many more there are, which no event
    has. `entry` is the id that it had in the usage stream.
    """

    id: str
    shard: int
    reason: str
    entry: str
    died_at: datetime
    fields: dict[str, str]
    others: int


class DeadList(Struct, kw_only=True):
    """A page of dead events, oldest first, shard by shard."""

    data: list[DeadView]
    next: str | None


class Replay(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which events: these, or all."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=IDS_MAX)] | None = None
    all: bool = False


class ReplayedView(Struct, kw_only=True):
    """How many were put back, and how many are dead at that moment."""

    replayed: int
    left: int


@get("/usage/dead")
async def dead(request: Requested, after: FromQuery[str | None] = None, limit: Limit = PAGE) -> DeadList:
    deps = deps_of(request)
    _, last = cursor.read(after, (0, state.id_of(state.FIRST)))
    behind = state.place_of(last, deps.dead.shards)
    if behind is None:
        raise cursor.false()
    rows = cursor.rows(limit)
    page = cursor.page(await deps.dead.page(behind, rows + 1), rows, _view, lambda event: (0, event.id))
    return DeadList(data=page.items, next=page.after)


@post("/usage/replay", status_code=200)
async def replay(request: Requested, data: JSONBody[Replay]) -> ReplayedView:
    deps, by = deps_of(request), await author_of(request)
    if data.all == (data.ids is not None):
        raise BadRequest(WHICH, param="ids")
    places = None if data.ids is None else _places(data.ids, deps.dead.shards)
    done = await deps.replays.replay(by, places)
    return ReplayedView(replayed=done.replayed, left=done.left)


def _places(ids: list[str], shards: int) -> list[Place]:
    """Raises `BadRequest`."""
    found = [state.place_of(one, shards) for one in dict.fromkeys(ids)]
    places = [place for place in found if place is not None]
    if len(places) < len(found):
        raise BadRequest("An id is written as GET /admin/usage/dead shows it: 0:1795292735107-0.", param="ids")
    return places


def _view(event: DeadEvent) -> DeadView:
    return DeadView(
        id=event.id,
        shard=event.place[0],
        reason=event.reason,
        entry=event.entry,
        died_at=at(event.died_ms),
        fields=event.fields,
        others=event.others,
    )
