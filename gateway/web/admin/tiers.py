"""The routes of tiers."""

from datetime import datetime
from functools import partial
from typing import Annotated

from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from gateway.core import pricing
from gateway.core.record import TIER_WEIGHT_MAX, Tier
from gateway.web.admin import amounts, force, limit_fields, words
from gateway.web.admin.amounts import Multiplier
from gateway.web.admin.author import author_of
from gateway.web.admin.deps import Requested, deps_of
from gateway.web.admin.key_views import at
from gateway.web.admin.limit_fields import LimitFields, OwnLimits
from gateway.web.admin.query import PAGE, Limit, Removed

TIER_CHARS_MAX = 32
NAME = f"[a-z][a-z0-9-]{{0,{TIER_CHARS_MAX - 1}}}"
TierName = Annotated[str, Meta(min_length=1, max_length=TIER_CHARS_MAX, extra_json_schema={"pattern": f"^{NAME}$"})]
Weight = Annotated[int, Meta(ge=1, le=TIER_WEIGHT_MAX)]
NAME_RULE = f"A tier's name has up to {TIER_CHARS_MAX} small letters, digits and dashes, and begins with a letter."


class ChangeTier(LimitFields, kw_only=True, forbid_unknown_fields=True):
    """Limits for keys that say nothing themselves; "inherit" leaves one to the gateway's default.

    `weight`: where calls have to wait, a key of weight 3 gets three times the tokens of one of weight 1.
    """

    multiplier: Multiplier | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET


class CreateTier(ChangeTier, kw_only=True, forbid_unknown_fields=True):
    """A new tier. Calls of its keys cost `multiplier` times the price, 1 unless given, as `weight` is."""

    name: TierName


class TierView(OwnLimits, kw_only=True):
    """A class of keys. null: unlimited; "inherit": the gateway's default decides."""

    name: str
    multiplier: float
    weight: int
    created_at: datetime
    updated_at: datetime


class TierList(Struct, kw_only=True):
    """Tiers by name."""

    data: list[TierView]
    next: str | None


class TierController(Controller):
    path = "/tiers"

    @post("/")
    async def create(self, request: Requested, data: JSONBody[CreateTier]) -> TierView:
        deps, by = deps_of(request), await author_of(request)
        words.fits(data.name, NAME, "name", NAME_RULE)
        return _view((await deps.tiers.create(by, _changed(Tier(name=data.name), data))).what)

    @get("/")
    async def listed(self, request: Requested, after: FromQuery[str | None] = None, limit: Limit = PAGE) -> TierList:
        found = [tier for tier in await deps_of(request).tiers.all() if tier.name > (after or "")]
        page = found[:limit]
        return TierList(data=[_view(tier) for tier in page], next=page[-1].name if len(found) > limit else None)

    @get("/{name:str}")
    async def read(self, request: Requested, name: FromPath[str]) -> TierView:
        return _view(await deps_of(request).tiers.get(name))

    @patch("/{name:str}")
    async def change(self, request: Requested, name: FromPath[str], data: JSONBody[ChangeTier]) -> TierView:
        deps, by = deps_of(request), await author_of(request)
        tier = await deps.tiers.change(by, name, partial(_changed, given=data))
        await force.put(deps.publisher.tier(tier.name))
        return _view(tier)

    @delete("/{name:str}", status_code=200)
    async def remove(self, request: Requested, name: FromPath[str]) -> Removed:
        deps, by = deps_of(request), await author_of(request)
        await deps.tiers.remove(by, name)
        return Removed(name)


def _changed(tier: Tier, given: ChangeTier) -> Tier:
    """The tier with what is given. Raises `BadRequest`."""
    multiplier = tier.multiplier_milli if given.multiplier is UNSET else amounts.milli(given.multiplier)
    weight = tier.weight if given.weight is UNSET else given.weight
    limits = limit_fields.changed(tier.limits, given)
    return replace(tier, limits=limits, multiplier_milli=multiplier, weight=weight)


def _view(tier: Tier) -> TierView:
    return TierView(
        name=tier.name,
        multiplier=tier.multiplier_milli / pricing.MULTIPLIER_ONE,
        weight=tier.weight,
        **limit_fields.own(tier.limits),
        created_at=at(tier.created_at_ms),
        updated_at=at(tier.updated_at_ms),
    )
