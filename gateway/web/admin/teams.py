"""The routes of teams."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from gateway.core import keys
from gateway.core.call import Account
from gateway.core.record import Team
from gateway.web import public
from gateway.web.admin import amounts, force, limit_fields, standing, words
from gateway.web.admin.amounts import Credits
from gateway.web.admin.author import author_of
from gateway.web.admin.deps import AdminDeps, Requested, deps_of
from gateway.web.admin.key_views import at
from gateway.web.admin.limit_fields import LimitFields, LimitsInForce
from gateway.web.admin.query import PAGE, Limit, Removed
from gateway.web.admin.words import Label


class TeamFields(LimitFields, kw_only=True, forbid_unknown_fields=True):
    """A team's label, and limits that its keys share; it inherits none, so "inherit" is unlimited too."""

    label: Label | UnsetType = UNSET
    shadow: bool | UnsetType = UNSET


class CreateTeam(TeamFields, kw_only=True, forbid_unknown_fields=True):
    """A new team. `credits` is its first grant: its keys' calls are then charged to it too."""

    credits: Credits | None = None


class ChangeTeam(TeamFields, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is. `metered`: whether calls are charged to the team's credits."""

    metered: bool | UnsetType = UNSET


class TeamView(LimitsInForce, kw_only=True):
    """A team. `credits` is null for one that is not metered, and while Redis, which counts them, is away."""

    id: str
    label: str
    shadow: bool
    metered: bool
    credits: public.Credits | None
    created_at: datetime
    updated_at: datetime


class TeamList(Struct, kw_only=True):
    """A page of teams, newest first."""

    data: list[TeamView]
    next: str | None


class TeamController(Controller):
    path = "/teams"

    @post("/")
    async def create(self, request: Requested, data: JSONBody[CreateTeam]) -> TeamView:
        deps, by = deps_of(request), await author_of(request)
        opening = None if data.credits is None else amounts.micro(data.credits, "credits")
        team = Team(id=keys.mint_id(deps.entropy(keys.ENTROPY_BYTES)), created_at_ms=deps.now_ms())
        made = await deps.teams.create(by, _changed(team, data), opening)
        await force.is_put(deps.publisher.team(made.what))  # nothing can use it before it is in force
        return await _shown(deps, made.what)

    @get("/")
    async def listed(self, request: Requested, after: FromQuery[str | None] = None, limit: Limit = PAGE) -> TeamList:
        deps = deps_of(request)
        page = await deps.teams.page(after, limit)
        return TeamList(data=await _views(deps, page.items), next=page.after)

    @get("/{team_id:str}")
    async def read(self, request: Requested, team_id: FromPath[str]) -> TeamView:
        deps = deps_of(request)
        return await _shown(deps, await deps.teams.get(team_id))

    @patch("/{team_id:str}")
    async def change(self, request: Requested, team_id: FromPath[str], data: JSONBody[ChangeTeam]) -> TeamView:
        deps, by = deps_of(request), await author_of(request)
        team = await deps.teams.change(by, team_id, partial(_changed, given=data))
        await force.put(deps.publisher.team(team))
        return await _shown(deps, team)

    @delete("/{team_id:str}", status_code=200)
    async def remove(self, request: Requested, team_id: FromPath[str]) -> Removed:
        deps, by = deps_of(request), await author_of(request)
        await deps.teams.remove(by, team_id)
        return Removed(team_id)

    @get("/{team_id:str}/usage")
    async def usage(self, request: Requested, team_id: FromPath[str]) -> public.TeamReport:
        deps = deps_of(request)
        team = await deps.teams.get(team_id)
        return public.team_report(team.id, *await deps.inspector.team(team.id))


def _changed(team: Team, given: TeamFields) -> Team:
    """The team with what is given. Raises `BadRequest`."""
    words.label(given.label)
    said: dict[str, Any] = {
        name: value for name in ("label", "shadow", "metered") if (value := getattr(given, name, UNSET)) is not UNSET
    }
    return replace(team, limits=limit_fields.changed(team.limits, given), **said)


async def _shown(deps: AdminDeps, team: Team) -> TeamView:
    (view,) = await _views(deps, [team])
    return view


async def _views(deps: AdminDeps, teams: Sequence[Team]) -> list[TeamView]:
    accounts = await standing.of_teams(deps, teams)
    return [_view(team, account) for team, account in zip(teams, accounts, strict=True)]


def _view(team: Team, account: Account | None) -> TeamView:
    return TeamView(
        id=team.id,
        label=team.label,
        shadow=team.shadow,
        metered=team.metered,
        **limit_fields.in_force(team.limits),
        credits=public.credits_of(account) if account else None,
        created_at=at(team.created_at_ms),
        updated_at=at(team.updated_at_ms),
    )
