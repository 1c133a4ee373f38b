"""The routes of API keys."""

from functools import partial

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody

from gateway.admin.keys import KeyFilter
from gateway.core import keys
from gateway.core.record import ApiKey, Secret
from gateway.web import public
from gateway.web.admin import amounts, force, key_fields, key_views, standing
from gateway.web.admin.author import author_of
from gateway.web.admin.deps import AdminDeps, Requested, deps_of
from gateway.web.admin.key_fields import ChangeKey, CreateKey, RotateKey
from gateway.web.admin.key_views import CreatedKey, KeyList, KeyView
from gateway.web.admin.query import PAGE, Limit

SHOWN_ONCE = "Keep this key now: it is shown only this once."
SHOWN_BEFORE = "This request was carried out before. The key was shown then, and only then."
ROTATED_SOON = f"{SHOWN_ONCE} {force.SOON} The former one works until then."


class KeyController(Controller):
    path = "/api-keys"

    @post("/")
    async def create(self, request: Requested, data: JSONBody[CreateKey]) -> CreatedKey:
        deps, by = deps_of(request), await author_of(request)
        opening = None if data.credits is None else amounts.micro(data.credits, "credits")
        text = await _mint(deps, data)
        key = ApiKey(id=keys.id_of(text) or "", secrets=(_secret(deps, text),), created_at_ms=deps.now_ms())
        made = await deps.keys.create(by, key_fields.changed(key, data, deps.now_ms()), opening)
        in_force = await force.is_put(deps.publisher.key(made.what))
        if made.again:
            return await _created(deps, made.what, None, SHOWN_BEFORE)
        return await _created(deps, made.what, text, SHOWN_ONCE if in_force else f"{SHOWN_ONCE} {force.SOON}")

    @get("/")
    async def listed(
        self,
        request: Requested,
        label: FromQuery[str | None] = None,
        owner_email: FromQuery[str | None] = None,
        team_id: FromQuery[str | None] = None,
        tier: FromQuery[str | None] = None,
        enabled: FromQuery[bool | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = PAGE,
    ) -> KeyList:
        deps = deps_of(request)
        wanted = KeyFilter(label=label, owner_email=owner_email, team_id=team_id, tier=tier, enabled=enabled)
        page = await deps.keys.page(wanted, after, limit)
        return KeyList(data=await key_views.shown(deps, page.items), next=page.after)

    @get("/{key_id:str}")
    async def read(self, request: Requested, key_id: FromPath[str]) -> KeyView:
        deps = deps_of(request)
        return await _shown(deps, await deps.keys.get(key_id))

    @patch("/{key_id:str}")
    async def change(self, request: Requested, key_id: FromPath[str], data: JSONBody[ChangeKey]) -> KeyView:
        deps, by = deps_of(request), await author_of(request)
        await _check_places(deps, data)
        edit = partial(key_fields.changed, given=data, now_ms=deps.now_ms())
        key = await deps.keys.change(by, key_id, edit)
        await force.put(deps.publisher.key(key))
        return await _shown(deps, key)

    @delete("/{key_id:str}", status_code=200)
    async def revoke(self, request: Requested, key_id: FromPath[str]) -> KeyView:
        deps, by = deps_of(request), await author_of(request)
        key = await deps.keys.revoke(by, key_id)
        await force.put(deps.publisher.key(key))
        return await _shown(deps, key)

    @post("/{key_id:str}/rotate")
    async def rotate(self, request: Requested, key_id: FromPath[str], data: JSONBody[RotateKey]) -> CreatedKey:
        """The new secret is told also when it is not in force yet: nobody could ask for it again."""
        deps, by = deps_of(request), await author_of(request)
        unused = await _unused(deps, await deps.keys.get(key_id))
        text = keys.remint(key_id, deps.prefix, deps.entropy(keys.ENTROPY_BYTES))
        made = await deps.keys.rotate(by, key_id, _secret(deps, text), data.overlap_seconds, unused)
        in_force = await force.is_put(deps.publisher.key(made.what))
        if made.again:
            return await _created(deps, made.what, None, SHOWN_BEFORE)
        return await _created(deps, made.what, text, SHOWN_ONCE if in_force else ROTATED_SOON)

    @get("/{key_id:str}/usage")
    async def usage(self, request: Requested, key_id: FromPath[str]) -> public.UsageReport:
        deps = deps_of(request)
        key = await deps.keys.get(key_id)
        statement = await deps.inspector.statement(key.id)
        return public.report(key.id, statement, await deps.own_uses.of(key.id, statement.month))


async def _mint(deps: AdminDeps, data: CreateKey) -> str:
    """A key that nobody has yet. Raises `TeamNotFound`, `TierNotFound`."""
    await _check_places(deps, data)
    if isinstance(data.team_id, str):
        return keys.mint_beside(data.team_id, deps.prefix, deps.entropy)
    return keys.mint(deps.prefix, deps.entropy(keys.ENTROPY_BYTES))


async def _check_places(deps: AdminDeps, data: key_fields.KeyFields) -> None:
    """Whether there are the tier and the team that are named. The store makes sure of it once more."""
    if isinstance(data.tier, str):
        await deps.tiers.get(data.tier)
    if isinstance(data.team_id, str):
        await deps.teams.get(data.team_id)


def _secret(deps: AdminDeps, text: str) -> Secret:
    digest, pepper_id = deps.peppers.digest(text)
    return Secret(digest=digest, pepper_id=pepper_id, last_four=keys.last_four(text), created_at_ms=deps.now_ms())


async def _unused(deps: AdminDeps, key: ApiKey) -> str:
    """The digest of the newest secret, when nobody has used it; "" also when Redis cannot say so."""
    (account,) = await standing.of_keys(deps, [key])
    newest = key.secrets[0].digest if key.secrets else ""
    return newest if account and newest[: key_views.DIGITS_KNOWN] not in account.used_ms else ""


async def _shown(deps: AdminDeps, key: ApiKey) -> KeyView:
    (view,) = await key_views.shown(deps, [key])
    return view


async def _created(deps: AdminDeps, key: ApiKey, text: str | None, message: str) -> CreatedKey:
    return CreatedKey(key=text, message=message, **msgspec.structs.asdict(await _shown(deps, key)))
