"""How keys and teams stand at this moment: Redis knows, and where it is away nobody does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.core.call import Account
from gateway.core.record import ApiKey, Team
from gateway.errors import KeyNotFound, KeysNotLoaded, LimitsUnavailable
from gateway.web.admin.deps import AdminDeps

AT_ONCE = 64

T = TypeVar("T")


async def of_keys(deps: AdminDeps, keys: Sequence[ApiKey]) -> list[Account | None]:
    """The account of each key; None while Redis does not have it, or is away."""

    async def one(key: ApiKey) -> Account | None:
        try:
            return (await deps.inspector.statement(key.id)).key
        except KeyNotFound:
            return None  # it is made, but not published yet

    return await _each(keys, one)


async def of_teams(deps: AdminDeps, teams: Sequence[Team]) -> list[Account | None]:
    """The account of each team; None while Redis is away."""

    async def one(team: Team) -> Account | None:
        try:
            return (await deps.inspector.team(team.id))[1]
        except KeysNotLoaded:
            return None  # it is made, but not published yet

    return await _each(teams, one)


async def _each(owners: Sequence[T], one: Callable[[T], Awaitable[Account | None]]) -> list[Account | None]:
    """Some at a time. Once Redis is away, the others are not asked for."""
    found: list[Account | None] = []
    try:
        for start in range(0, len(owners), AT_ONCE):
            found += await asyncio.gather(*(one(owner) for owner in owners[start : start + AT_ONCE]))
    except LimitsUnavailable:
        pass
    return found + [None] * (len(owners) - len(found))
