"""Examples of answers of the admin API, by the id of the operation; tests hold each against its schema."""

from typing import Any

from gateway.web.schema.examples import ACCOUNT, MODEL, USAGE

KEY_ID, TEAM_ID = "0123456789", "9876543210"
NODE, ALIAS = "gpu-1", "fast:latest"
LATER = "2999-01-01T00:00:00Z"
_AT = "2026-11-21T18:31:10Z"
_TIMES = {"created_at": _AT, "updated_at": _AT}
_USED = {
    "day": "2026-11-21",
    "key_id": KEY_ID,
    "key_label": "me",
    "calls": 3,
    "failed_calls": 1,
    "estimated_calls": 0,
    "prompt_tokens": 78,
    "completion_tokens": 15,
    "total_tokens": 93,
    "credits": 3,
    "team_credits": 0,
    "avg_response_seconds": 0.31,
    "queue_seconds": 0.002,
    "gpu_seconds": 0.42,
}
_DEAD = {
    "id": "0:1795292735107-0",
    "shard": 0,
    "reason": "postgres 23514 usage_logs_tokens",
    "entry": "1795292735090-0",
    "died_at": _AT,
    "fields": {"v": "1", "id": "019a0000-0000-7000-8000-000000000001", "key": KEY_ID, "prompt": "26"},
    "others": 0,
}
_UNLIMITED: dict[str, Any] = {
    "rate_limit_per_min": None,
    "burst": None,
    "tokens_per_min": None,
    "concurrency": None,
    "monthly_token_limit": None,
    "model_limits": {},
}
_INHERITED = dict.fromkeys(_UNLIMITED, "inherit")
_KEY = {
    "id": KEY_ID,
    "label": "me",
    "owner_email": "",
    "enabled": True,
    "expired": False,
    "last_four": "x7Qp",
    "tier": None,
    "team_id": None,
    "scopes": ["inference"],
    "models": [],
    "networks": [],
    "shadow": False,
    "metered": True,
    **_INHERITED,
    "rate_limit_per_min": 20,
    "effective": _UNLIMITED | {"rate_limit_per_min": 20, "burst": 20, "monthly_token_limit": 1_000_000},
    "secrets": [{"last_four": "x7Qp", "created_at": _AT, "expires_at": None, "last_used_at": None}],
    "credits": {"balance": 100.0, "held": 0.0, "granted": 100.0, "charged": 0.0},
    **_TIMES,
    "expires_at": None,
    "revoked_at": None,
}
_CREATED = _KEY | {
    "key": f"llm_{KEY_ID} and 39 characters more",
    "message": "Keep this key now: it is shown only this once.",
}
_TEAM = {
    "id": TEAM_ID,
    "label": "research",
    "shadow": False,
    "metered": True,
    **_UNLIMITED,
    "tokens_per_min": 100_000,
    "credits": {"balance": 1000.0, "held": 0.0, "granted": 1000.0, "charged": 0.0},
    **_TIMES,
}
_TIER = {"name": "basic", "multiplier": 2.0, "weight": 1, **_INHERITED, **_TIMES}
_PRICE = {
    "id": 1,
    "model": MODEL,
    "valid_from": _AT,
    "per_request": 0.1,
    "per_1k_prompt_tokens": 0.0,
    "per_1k_completion_tokens": 0.5,
}
_GRANT = {
    "id": "invoice-2026-11",
    "key_id": KEY_ID,
    "team_id": None,
    "credits": 250.5,
    "note": "paid",
    "granted_by": "admin",
    "created_at": _AT,
}
_ENTRY = {
    "id": 1,
    "at": _AT,
    "actor": "admin",
    "action": "grant",
    "object": f"key:{KEY_ID}",
    "before": {"credits_granted": 0},
    "after": {"credits_granted": 250.5, "grant": "invoice-2026-11", "amount": 250.5},
    "request_id": "01a2b3c4-d5e6-7f89-8a0b-1c2d3e4f5a6b",
}
_BACKEND = {
    "name": NODE,
    "url": "https://gpu-1.example.org:11434",
    "source": "admin",
    "slots": 4,
    "weight": 100,
    "draining": False,
    "tags": ["a100"],
    "has_bearer": False,
    "has_ca": False,
    "state": "up",
    "busy": 1,
    "loading": None,
    "version": "0.34.2",
    "warnings": [],
    "models": 7,
    "loaded": [MODEL],
    "ejected": [{"model": "qwen3:8b", "seconds": 8, "failures": 3, "ejections": 1}],
}
_NEW_BACKEND = _BACKEND | {"state": "new", "busy": 0, "version": None, "models": 0, "loaded": [], "ejected": []}
_ALIAS = {
    "name": ALIAS,
    "targets": [MODEL],
    "options": {"temperature": 0.0},
    "context_tokens": 8_192,
    "answers": MODEL,
}
_MET = {"whose": "key", "limit": "requests", "of": 20, "before": 20, "needs": 1, "after": 19, "wait_seconds": 0}

_VERDICT = {
    "would_admit": True,
    "reason": None,
    "message": None,
    "retry_after": None,
    "max_tokens": 200,
    "price": 1.0,
    "limits": [_MET],
}
_CANDIDATE = {
    "name": NODE,
    "reason": None,
    "rank": 1,
    "state": "loaded",
    "finish_ms": 2_400,
    "busy": 1,
    "slots": 4,
    "weight": 100,
    "equal": True,
    "load_from": 0,
    "context_tokens": 8_192,
}
_UNFIT = dict.fromkeys(_CANDIDATE) | {"name": "gpu-2", "reason": "ejected", "busy": 0, "slots": 4, "weight": 100}


def _page(one: dict[str, Any]) -> dict[str, Any]:
    return {"data": [one], "next": None}


ADMIN_ANSWERS: dict[str, Any] = {
    "createApiKey": _CREATED,
    "listApiKeys": _page(_KEY),
    "readApiKey": _KEY,
    "changeApiKey": _KEY | {"rate_limit_per_min": 60},
    "revokeApiKey": _KEY | {"enabled": False, "revoked_at": _AT},
    "rotateApiKey": _CREATED,
    "keyUsage": USAGE,
    "createTeam": _TEAM,
    "listTeams": _page(_TEAM),
    "readTeam": _TEAM,
    "changeTeam": _TEAM | {"concurrency": 8},
    "removeTeam": {"id": TEAM_ID, "removed": True},
    "teamUsage": ACCOUNT | {"team_id": TEAM_ID},
    "createTier": _TIER | {"name": "gold", "multiplier": 0.5, "rate_limit_per_min": 600},
    "listTiers": _page(_TIER),
    "readTier": _TIER,
    "changeTier": _TIER | {"tokens_per_min": 20_000, "weight": 2},
    "removeTier": {"id": "gold", "removed": True},
    "createPrice": _PRICE,
    "listPrices": _page(_PRICE),
    "removePrice": {"id": "1", "removed": True},
    "grantCredits": _GRANT,
    "listCredits": _page(_GRANT),
    "reconcile": {
        "month": "2026-11",
        "agrees": True,
        "complete": True,
        "rows": "kept",
        "keys": 12,
        "teams": 1,
        "events": 3,
        "dead": 0,
        "differing": 0,
        "differences": [],
        "overdrawn": [],
    },
    "addBackend": _NEW_BACKEND,
    "listBackends": _page(_BACKEND),
    "readBackend": _BACKEND,
    "changeBackend": _BACKEND | {"draining": True, "state": "draining"},
    "removeBackend": {"id": NODE, "removed": True},
    "addAlias": _ALIAS,
    "listAliases": _page(_ALIAS),
    "readAlias": _ALIAS,
    "changeAlias": _ALIAS | {"context_tokens": None},
    "removeAlias": {"id": ALIAS, "removed": True},
    "dryRun": _VERDICT,
    "explainCall": {
        "key": _KEY,
        "model": MODEL,
        "alias": None,
        "prompt_tokens": 9,
        "admission": _VERDICT,
        "backends": [_CANDIDATE, _UNFIT],
        "affinity": NODE,
        "would": {
            "place": NODE,
            "loads": False,
            "queue_position": None,
            "depth": None,
            "about_s": None,
            "refused": None,
        },
    },
    "reportUsage": {
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-12-01T00:00:00Z",
        "group_by": ["day", "key"],
        "data": [_USED],
        "truncated": False,
    },
    "listDeadUsage": _page(_DEAD),
    "replayUsage": {"replayed": 1, "left": 0},
    "listAudit": _page(_ENTRY),
}
