"""The routes of grants: what is given to keys and teams, once for each id, and kept in a ledger."""

from datetime import datetime
from functools import partial
from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.params import FromQuery, JSONBody
from msgspec import Meta, Struct

from gateway.admin.credits import Grant
from gateway.core import pricing
from gateway.core.call import Account
from gateway.core.record import ApiKey, Team
from gateway.errors import BadRequest, KeyNotFound, LimitsUnavailable
from gateway.web.admin import amounts, force, words
from gateway.web.admin.author import author_of
from gateway.web.admin.deps import AdminDeps, Requested, deps_of
from gateway.web.admin.key_fields import Name
from gateway.web.admin.key_views import at
from gateway.web.admin.query import PAGE, Limit
from gateway.web.admin.words import Note

ID_CHARS_MAX = 100
ID = "[!-~]+"
GrantId = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX, extra_json_schema={"pattern": f"^{ID}$"})]
ID_RULE = f"The id of a grant has up to {ID_CHARS_MAX} visible ASCII characters."
Amount = Annotated[float, Meta(ge=-amounts.CREDITS_MAX, le=amounts.CREDITS_MAX)]


class CreateGrant(Struct, kw_only=True, forbid_unknown_fields=True):
    """Credits for a key or for a team. The same `id` again changes nothing. Less than 0 takes credits back."""

    id: GrantId
    key_id: Name | None = None
    team_id: Name | None = None
    credits: Amount
    note: Note = ""


class GrantView(Struct, kw_only=True):
    """An entry of the ledger."""

    id: str
    key_id: str | None
    team_id: str | None
    credits: float
    note: str
    granted_by: str
    created_at: datetime


class GrantList(Struct, kw_only=True):
    """A page of grants, newest first."""

    data: list[GrantView]
    next: str | None


class CreditController(Controller):
    path = "/credits"

    @post("/")
    async def create(self, request: Requested, data: JSONBody[CreateGrant]) -> Response[GrantView]:
        deps, by = deps_of(request), await author_of(request)
        grant = _grant(data)
        owner = await _owner(deps, grant)
        made = await deps.credits.grant(by, grant, partial(_bound_micro, deps, owner))
        await force.put(_publish(deps, owner))
        return Response(_view(made.what), status_code=200 if made.again else 201)

    @get("/")
    async def listed(
        self,
        request: Requested,
        key_id: FromQuery[str | None] = None,
        team_id: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = PAGE,
    ) -> GrantList:
        page = await deps_of(request).credits.page(key_id, team_id, after, limit)
        return GrantList(data=[_view(grant) for grant in page.items], next=page.after)


def _grant(data: CreateGrant) -> Grant:
    """Raises `BadRequest`."""
    words.checked(data.note, "note")
    words.fits(data.id, ID, "id", ID_RULE)
    if (data.key_id is None) == (data.team_id is None):
        raise BadRequest("Grant credits to a key or to a team: send `key_id` or `team_id`.", param="key_id")
    amount_micro = amounts.micro(data.credits, "credits")
    if not amount_micro:
        raise BadRequest("A grant of no credits is none.", param="credits")
    return Grant(id=data.id, key_id=data.key_id, team_id=data.team_id, amount_micro=amount_micro, note=data.note)


async def _owner(deps: AdminDeps, grant: Grant) -> ApiKey | Team:
    if grant.team_id is not None:
        return await deps.teams.get(grant.team_id)
    return await deps.keys.get(grant.key_id or "")


async def _publish(deps: AdminDeps, owner: ApiKey | Team) -> None:
    """The owner as the grant has left it."""
    if isinstance(owner, Team):
        await deps.publisher.team(await deps.teams.get(owner.id))
    else:
        await deps.publisher.key(await deps.keys.get(owner.id))


async def _bound_micro(deps: AdminDeps, owner: ApiKey | Team) -> int:
    """What cannot be taken back: credits that are charged, or held by running calls. Raises `LimitsUnavailable`."""
    account = await _account(deps, owner)
    return account.charged_micro + account.credit_held_micro


async def _account(deps: AdminDeps, owner: ApiKey | Team) -> Account:
    if isinstance(owner, Team):
        return (await deps.inspector.team(owner.id))[1]
    try:
        return (await deps.inspector.statement(owner.id)).key
    except KeyNotFound:
        raise LimitsUnavailable from None  # it is in Postgres, so Redis is behind


def _view(grant: Grant) -> GrantView:
    return GrantView(
        id=grant.id,
        key_id=grant.key_id,
        team_id=grant.team_id,
        credits=pricing.credits(grant.amount_micro),
        note=grant.note,
        granted_by=grant.granted_by,
        created_at=at(grant.created_at_ms),
    )
