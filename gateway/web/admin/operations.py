"""The operations of the admin API, as the OpenAPI document describes them."""

from functools import partial
from typing import Any

from gateway.web import public, pull, pulling
from gateway.web.admin import (
    aliases,
    audit,
    backend_fields,
    backend_views,
    credits,
    dry_run,
    explain,
    key_fields,
    key_views,
    prices,
    reconcile,
    teams,
    tiers,
)
from gateway.web.admin.query import PAGE, PAGE_MAX, Removed
from gateway.web.admin.usage_operations import USAGE
from gateway.web.operation import LINES, Operation, Parameter, Streamed
from gateway.web.schema.admin_examples import ALIAS, KEY_ID, LATER, NODE, TEAM_ID
from gateway.web.schema.examples import MODEL

LOOKS = (400, 401, 429, 500, 503)
FINDS = (*LOOKS, 404)
MAKES = (*FINDS, 409, 413)
_admin = partial(Operation, tag="admin", access="admin")
_OVERLAP = (
    "While two secrets work, a further one replaces the newest if that was never used; else it is 409 until the former "
    "one ends, unless `overlap_seconds` is 0, which ends both at once."
)
_ONCE = "With an `Idempotency-Key`, the same request sent again within a day is not carried out again."


def _list(*filters: Parameter) -> tuple[Parameter, ...]:
    return (
        *filters,
        Parameter("after", "query", "", "`next` of the page before."),
        Parameter(
            "limit", "query", PAGE, "The longest page that is wanted.",
            {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE},
        ),
    )  # fmt: skip


def _filter(name: str, example: Any, about: str, **schema: Any) -> Parameter:
    return Parameter(name, "query", example, about, schema or {"type": "string"})


KEY = (Parameter("key_id", "path", KEY_ID, "A key's id: the ten characters behind its prefix."),)
TEAM = (Parameter("team_id", "path", TEAM_ID, "A team's id."),)
TIER = (Parameter("name", "path", "basic", "A tier's name."),)
PRICE = (Parameter("price_id", "path", 1, "A price's number.", {"type": "integer", "minimum": 1}),)

BACKEND = (Parameter("name", "path", NODE, "A backend's name."),)
ALIAS_NAME = (Parameter("name", "path", ALIAS, "An alias; it may hold `/` and `:`."),)

KEYS: tuple[Operation, ...] = (
    _admin(
        method="post", path="/admin/api-keys", id="createApiKey", status=201,
        summary="Make a key; the answer is the only place it is shown", about=_ONCE,
        request=key_fields.CreateKey, example={"label": "me", "rate_limit_per_min": 20, "credits": 100},
        answer=key_views.CreatedKey, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/api-keys", id="listApiKeys", summary="All keys, newest first",
        parameters=_list(
            _filter("label", "me", "Keys with this in their label."),
            _filter("owner_email", "me@example.org", "Keys of that owner."),
            _filter("team_id", TEAM_ID, "Keys of that team."),
            _filter("tier", "basic", "Keys in that tier."),
            _filter("enabled", True, "Keys neither switched off nor revoked, or those that are.", type="boolean"),
        ),
        answer=key_views.KeyList, errors=LOOKS,
    ),
    _admin(
        method="get", path="/admin/api-keys/{key_id}", id="readApiKey", summary="One key, and how it stands",
        parameters=KEY, answer=key_views.KeyView, errors=FINDS,
    ),
    _admin(
        method="patch", path="/admin/api-keys/{key_id}", id="changeApiKey", summary="Change what is named of a key",
        about="Of a limit, null means unlimited and `inherit` what its tier or the gateway's default says.",
        parameters=KEY, request=key_fields.ChangeKey, example={"rate_limit_per_min": 60, "burst": "inherit"},
        answer=key_views.KeyView, errors=MAKES,
    ),
    _admin(
        method="delete", path="/admin/api-keys/{key_id}", id="revokeApiKey",
        summary="Revoke a key at once, for good", parameters=KEY, answer=key_views.KeyView, errors=FINDS,
    ),
    _admin(
        method="post", path="/admin/api-keys/{key_id}/rotate", id="rotateApiKey", status=201,
        summary="Give a key another secret; the former one works a while longer",
        about=f"{_ONCE} {_OVERLAP}",
        parameters=KEY, request=key_fields.RotateKey, example={"overlap_seconds": 3_600},
        answer=key_views.CreatedKey, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/api-keys/{key_id}/usage", id="keyUsage",
        summary="What a key has used and has left, as its holder is told",
        parameters=KEY, answer=public.UsageReport, errors=FINDS,
    ),
)  # fmt: skip

TEAMS: tuple[Operation, ...] = (
    _admin(
        method="post", path="/admin/teams", id="createTeam", status=201, about=_ONCE,
        summary="Make a team: keys in it share its limits and credits, beside their own",
        request=teams.CreateTeam, example={"label": "research", "tokens_per_min": 100_000, "credits": 1_000},
        answer=teams.TeamView, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/teams", id="listTeams", summary="All teams, newest first",
        parameters=_list(), answer=teams.TeamList, errors=LOOKS,
    ),
    _admin(
        method="get", path="/admin/teams/{team_id}", id="readTeam", summary="One team, and how it stands",
        parameters=TEAM, answer=teams.TeamView, errors=FINDS,
    ),
    _admin(
        method="patch", path="/admin/teams/{team_id}", id="changeTeam", summary="Change what is named of a team",
        parameters=TEAM, request=teams.ChangeTeam, example={"concurrency": 8},
        answer=teams.TeamView, errors=MAKES,
    ),
    _admin(
        method="delete", path="/admin/teams/{team_id}", id="removeTeam",
        summary="Remove a team of which every key is revoked",
        parameters=TEAM, answer=Removed, errors=(*FINDS, 409),
    ),
    _admin(
        method="get", path="/admin/teams/{team_id}/usage", id="teamUsage",
        summary="What a team has used and has left", parameters=TEAM, answer=public.TeamReport, errors=FINDS,
    ),
)  # fmt: skip

TIERS: tuple[Operation, ...] = (
    _admin(
        method="post", path="/admin/tiers", id="createTier", status=201, about=_ONCE,
        summary="Make a tier: limits for keys that say nothing themselves, and what their calls cost",
        request=tiers.CreateTier, example={"name": "gold", "multiplier": 0.5, "rate_limit_per_min": 600},
        answer=tiers.TierView, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/tiers", id="listTiers", summary="All tiers, by name",
        parameters=_list(), answer=tiers.TierList, errors=LOOKS,
    ),
    _admin(
        method="get", path="/admin/tiers/{name}", id="readTier", summary="One tier",
        parameters=TIER, answer=tiers.TierView, errors=FINDS,
    ),
    _admin(
        method="patch", path="/admin/tiers/{name}", id="changeTier", summary="Change what is named of a tier",
        about="In force for its keys one after the other, some thousand a second.",
        parameters=TIER, request=tiers.ChangeTier, example={"multiplier": 2, "tokens_per_min": 20_000, "weight": 2},
        answer=tiers.TierView, errors=MAKES,
    ),
    _admin(
        method="delete", path="/admin/tiers/{name}", id="removeTier", summary="Remove a tier without keys",
        parameters=TIER, answer=Removed, errors=(*FINDS, 409),
    ),
)  # fmt: skip

MONEY: tuple[Operation, ...] = (
    _admin(
        method="post", path="/admin/prices", id="createPrice", status=201, about=_ONCE,
        summary="Set what calls to a model cost, from a time on",
        request=prices.CreatePrice,
        example={"model": MODEL, "valid_from": LATER, "per_request": 0.1, "per_1k_completion_tokens": 0.5},
        answer=prices.PriceView, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/prices", id="listPrices", summary="All prices, the latest first",
        parameters=_list(_filter("model", MODEL, "Prices of that model, or `*`.")),
        answer=prices.PriceList, errors=LOOKS,
    ),
    _admin(
        method="delete", path="/admin/prices/{price_id}", id="removePrice", parameters=PRICE,
        summary="Remove a price that is not valid yet", answer=Removed, errors=(*FINDS, 409),
    ),
    _admin(
        method="post", path="/admin/credits", id="grantCredits", status=201, status_again=200,
        summary="Grant credits to a key or a team, once for each id",
        about="The same id again changes nothing and answers 200. Less than 0 takes back what is not spent or "
        "held at that moment.",
        request=credits.CreateGrant,
        example={"id": "invoice-2026-11", "key_id": KEY_ID, "credits": 250.5, "note": "paid"},
        answer=credits.GrantView, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/credits", id="listCredits", summary="The ledger of all grants, newest first",
        parameters=_list(
            _filter("key_id", KEY_ID, "Grants to that key."), _filter("team_id", TEAM_ID, "Grants to that team.")
        ),
        answer=credits.GrantList, errors=LOOKS,
    ),
    _admin(
        method="get", path="/admin/reconcile", id="reconcile",
        summary="Whether Redis, usage rows and their sums agree on a month, for every key and team",
        about="Credits are compared as they are ever since. What moves meanwhile is no difference.",
        parameters=(_filter("month", "2026-11", "Which month (UTC); left out: this one."),),
        answer=reconcile.Reconciliation, errors=LOOKS,
    ),
)  # fmt: skip

FLEET: tuple[Operation, ...] = (
    _admin(
        method="post", path="/admin/backends", id="addBackend", status=201,
        summary="Add an Ollama node; every replica uses it within a second", about=_ONCE,
        request=backend_fields.CreateBackend,
        example={"name": NODE, "url": "https://gpu-1.example.org:11434", "slots": 4, "tags": ["a100"]},
        answer=backend_views.BackendView, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/backends", id="listBackends",
        summary="All nodes by name, and how each stands", parameters=_list(),
        answer=backend_views.BackendList, errors=LOOKS,
    ),
    _admin(
        method="get", path="/admin/backends/{name}", id="readBackend", summary="One node, and how it stands",
        parameters=BACKEND, answer=backend_views.BackendView, errors=FINDS,
    ),
    _admin(
        method="patch", path="/admin/backends/{name}", id="changeBackend", summary="Change what is named of a node",
        about="Also of a node that OLLAMA_BASE_URL names: what is said here then counts instead.",
        parameters=BACKEND, request=backend_fields.ChangeBackend, example={"draining": True},
        answer=backend_views.BackendView, errors=MAKES,
    ),
    _admin(
        method="delete", path="/admin/backends/{name}", id="removeBackend",
        summary="Remove a node; calls that it works on end by themselves",
        about="Of a node that OLLAMA_BASE_URL names, only what was said of it here; without that it is 409.",
        parameters=BACKEND, answer=Removed, errors=(*FINDS, 409),
    ),
    _admin(
        method="post", path="/admin/aliases", id="addAlias", status=201,
        summary="Give models a name: the first of them that can be served answers", about=_ONCE,
        request=aliases.CreateAlias,
        example={"name": ALIAS, "targets": [MODEL], "options": {"temperature": 0}, "context_tokens": 8_192},
        answer=aliases.AliasView, errors=MAKES,
    ),
    _admin(
        method="get", path="/admin/aliases", id="listAliases", summary="All aliases, by name", parameters=_list(),
        answer=aliases.AliasList, errors=LOOKS,
    ),
    _admin(
        method="get", path="/admin/aliases/{name}", id="readAlias", summary="One alias",
        parameters=ALIAS_NAME, answer=aliases.AliasView, errors=FINDS,
    ),
    _admin(
        method="patch", path="/admin/aliases/{name}", id="changeAlias", summary="Change what is named of an alias",
        parameters=ALIAS_NAME, request=aliases.ChangeAlias, example={"context_tokens": None},
        answer=aliases.AliasView, errors=MAKES,
    ),
    _admin(
        method="delete", path="/admin/aliases/{name}", id="removeAlias", summary="Remove an alias",
        parameters=ALIAS_NAME, answer=Removed, errors=FINDS,
    ),
)  # fmt: skip

REST: tuple[Operation, ...] = (
    _admin(
        method="post", path="/admin/limits/dry-run", id="dryRun",
        summary="What a call of a key would meet, limit by limit; nothing is counted",
        request=dry_run.DryRun,
        example={"key_id": KEY_ID, "model": MODEL, "prompt_bytes": 600, "max_tokens": 200},
        answer=dry_run.Verdict, errors=(*FINDS, 413),
    ),
    _admin(
        method="post", path="/admin/explain", id="explainCall",
        summary="What would become of a real request: limits, backends in order, place in the line; nothing changes",
        about="`endpoint` is a route that makes models work, and `body` what it takes.",
        request=explain.Explain,
        example={"key_id": KEY_ID, "body": {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}},
        answer=explain.Explained, errors=(*FINDS, 413),
    ),
    _admin(
        method="get", path="/admin/audit", id="listAudit", summary="Who changed what, newest first",
        parameters=_list(
            _filter("object", f"key:{KEY_ID}", "Changes of that object."),
            _filter("action", "update", "create, update, revoke, rotate, grant, remove or replay."),
            _filter("actor", "admin", "Changes by that actor, as X-Admin-Actor named it."),
        ),
        answer=audit.EntryList, errors=LOOKS,
    ),
    _admin(
        method="post", path="/v1/models/pull", id="pullModel", access="puller",
        summary="Pull a model onto backends, with progress as NDJSON",
        request=pull.PullModel, example={"model": MODEL, "stream": False},
        about="Only from the registries that the operator allows (setting PULL_REGISTRIES).", answer=pulling.PullResult,
        streamed=Streamed(LINES, (pulling.PullProgress, pulling.PullResult), unasked=True),
        errors=(400, 401, 403, 404, 413, 429, 500, 502, 503),
    ),
)  # fmt: skip

ADMIN: tuple[Operation, ...] = (*KEYS, *TEAMS, *TIERS, *MONEY, *FLEET, *USAGE, *REST)
