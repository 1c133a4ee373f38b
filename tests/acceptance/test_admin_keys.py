"""Operators make, change, rotate, list and revoke keys; calls meet what they said."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.keys import SHARDS_MAX, shard_of
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.operators import Operator
from tests.world import World, bearer

INHERITED = {
    "rate_limit_per_min": "inherit",
    "burst": "inherit",
    "tokens_per_min": "inherit",
    "concurrency": "inherit",
    "monthly_token_limit": "inherit",
    "model_limits": "inherit",
}
KEYS = 250
AT_ONCE = 10


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


async def test_a_key_has_all_that_was_said_in_one_spelling(operator: Operator) -> None:
    team = await operator.make("/teams", label="research")
    said: dict[str, Any] = {
        "label": "Zoë's notebook 🙂",
        "owner_email": "zoe@example.org",
        "tier": "basic",
        "team_id": team["id"],
        "scopes": ["pull", "inference", "pull"],
        "models": ["LLAMA3.2", "llama3*", "library/llama3.2:latest"],
        "networks": ["10.1.2.3/8", "192.0.2.1", "2001:DB8::1/32"],
        "shadow": True,
        "expires_at": "2999-01-01T01:00:00+01:00",
        "credits": 12.345678,
        "rate_limit_per_min": 60,
        "burst": 5,
        "tokens_per_min": None,
        "concurrency": 3,
        "model_limits": {"Llama3*": {"rate_limit_per_min": 5}, "qwen3:8b": {"tokens_per_min": None}},
    }
    made = await operator.make("/api-keys", **said)
    key = made.pop("key")
    assert made.pop("message") == "Keep this key now: it is shown only this once."
    read = await operator.get(f"/api-keys/{made['id']}")
    assert read == made
    assert key[-4:] == read["last_four"] == read["secrets"][0]["last_four"]
    assert key not in str(read)
    expected = {
        **said,
        "scopes": ["pull", "inference"],
        "models": ["llama3.2:latest", "llama3*"],
        "networks": ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"],
        "expires_at": "2999-01-01T00:00:00Z",
        "credits": {"granted": 12.345678, "charged": 0, "held": 0, "balance": 12.345678},
        "monthly_token_limit": "inherit",
        "model_limits": {"llama3*": {"rate_limit_per_min": 5}, "qwen3:8b": {}},
    }
    assert {name: read[name] for name in expected} == expected
    assert read["effective"] == {
        "rate_limit_per_min": 60,
        "burst": 5,
        "tokens_per_min": None,
        "concurrency": 3,
        "monthly_token_limit": 1_000_000,
        "model_limits": expected["model_limits"],
    }
    assert (read["enabled"], read["metered"], read["revoked_at"]) == (True, True, None)
    assert shard_of(read["id"], SHARDS_MAX) == shard_of(team["id"], SHARDS_MAX)


async def test_a_key_of_which_nothing_is_said_inherits_everything(operator: Operator) -> None:
    made = await operator.make("/api-keys")
    assert {name: made[name] for name in INHERITED} == INHERITED
    assert (made["label"], made["owner_email"], made["scopes"]) == ("unnamed", "", ["inference"])
    assert (made["metered"], made["credits"], made["tier"], made["models"]) == (False, None, None, [])
    zero = await operator.make("/api-keys", credits=0)
    assert (zero["metered"], zero["credits"]["balance"]) == (True, 0)
    assert (await operator.call(zero["key"])).json()["error"]["code"] == "insufficient_quota"


BAD: list[tuple[str | None, dict[str, Any]]] = [
    ("label", {"label": ""}),
    ("label", {"label": "x" * 65}),
    ("label", {"label": "a\nb"}),
    ("label", {"label": "a\u202eb"}),
    ("label", {"label": None}),
    ("label", {"label": "  "}),
    ("label", {"label": "\u3000\u00a0"}),
    ("label", {"label": "\u2800\u3164"}),
    ("label", {"label": "x\n"}),
    ("owner_email", {"owner_email": "nobody"}),
    ("owner_email", {"owner_email": "a@b\n"}),
    ("owner_email", {"owner_email": "a@b\u200e"}),
    ("rate_limit_per_min", {"rate_limit_per_min": 0}),
    ("rate_limit_per_min", {"rate_limit_per_min": 10**9}),
    ("rate_limit_per_min", {"rate_limit_per_min": "many"}),
    ("burst", {"burst": 1.5}),
    ("concurrency", {"concurrency": 10_001}),
    ("monthly_token_limit", {"monthly_token_limit": -1}),
    ("model_limits", {"model_limits": {"": {}}}),
    ("model_limits", {"model_limits": {"a b": {}}}),
    ("model_limits", {"model_limits": {"llama3.2": {}, "LLAMA3.2:latest": {}}}),
    ("model_limits", {"model_limits": {"*": {"burst": 1}}}),
    ("model_limits", {"model_limits": {f"m{number}": {} for number in range(17)}}),
    ("scopes", {"scopes": []}),
    ("scopes", {"scopes": ["admin"]}),
    ("models", {"models": ["no;name"]}),
    ("models", {"models": ["x"] * 65}),
    ("networks", {"networks": ["10.0.0.0/33"]}),
    ("networks", {"networks": ["localhost"]}),
    ("expires_at", {"expires_at": "2020-01-01T00:00:00Z"}),
    ("expires_at", {"expires_at": "2999-01-01T00:00:00"}),
    ("credits", {"credits": -1}),
    ("credits", {"credits": 0.0000001}),
    ("credits", {"credits": "many"}),
    ("credits", {"credits": 1e10}),
]


async def test_bad_bodies_are_refused_and_nothing_is_made(operator: Operator) -> None:
    key = await operator.make("/api-keys")
    before = await operator.get(f"/api-keys/{key['id']}")
    for param, body in BAD:
        for method, path in (("POST", "/api-keys"), ("PATCH", f"/api-keys/{key['id']}")):
            error = await operator.refused(400, "invalid_request", method, path, body)
            assert error["param"] == param, (body, error)
            assert "regex" not in error["message"] and "api_keys_" not in error["message"]
    for body in ([], "x", 5):
        await operator.refused(400, "invalid_request", "POST", "/api-keys", body)
    await operator.refused(404, "tier_not_found", "POST", "/api-keys", {"tier": "none"})
    await operator.refused(404, "team_not_found", "POST", "/api-keys", {"team_id": "0000000000"})
    await operator.refused(404, "tier_not_found", "PATCH", f"/api-keys/{key['id']}", {"tier": "none"})
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("GET", "/usage")):
        for unknown in ("0000000000", "x" * 300, "a'b", "%00", "key:1"):
            body = {} if method in ("POST", "PATCH") else None
            await operator.refused(404, "key_not_found", method, f"/api-keys/{unknown}{path}", body)
    assert await operator.walk("/api-keys", 100) == [before]


async def test_a_patch_changes_what_it_names_and_nothing_else(operator: Operator) -> None:
    await operator.change("/tiers/premium", tokens_per_min=5_000, rate_limit_per_min=500)
    key = await operator.make("/api-keys", label="a", rate_limit_per_min=7, models=["llama*"], credits=5)
    path = f"/api-keys/{key['id']}"

    async def change(**body: Any) -> dict[str, Any]:
        before, after = await operator.get(path), await operator.change(path, **body)
        assert after == await operator.get(path)
        named = {*body, "effective", "updated_at"}
        assert {name: value for name, value in before.items() if name not in named} == {
            name: value for name, value in after.items() if name not in named
        }
        return dict(after["effective"])

    assert (await change(label="b"))["rate_limit_per_min"] == 7
    assert (await change(rate_limit_per_min=None))["rate_limit_per_min"] is None
    assert (await change(rate_limit_per_min="inherit"))["rate_limit_per_min"] == 20
    effective = await change(tier="premium")
    assert (effective["rate_limit_per_min"], effective["tokens_per_min"]) == (500, 5_000)
    usage = await operator.world.usage(key["key"])
    assert (usage["requests_per_min"]["limit"], usage["tokens_per_min"]["limit"]) == (500, 5_000)
    assert (await change(tokens_per_min=None))["tokens_per_min"] is None
    assert (await operator.world.usage(key["key"]))["tokens_per_min"] is None
    assert (await change(tokens_per_min="inherit", tier=None))["tokens_per_min"] is None
    await change(models=[], networks=["127.0.0.0/8"], scopes=["inference", "pull"], shadow=True)
    await change(expires_at="2999-01-01T00:00:00Z")
    await change(expires_at=None)
    await change(model_limits={"llama*": {"rate_limit_per_min": 1}})
    await change(model_limits={})
    await change(model_limits="inherit")
    changed = await operator.change(path, metered=False)
    assert (changed["metered"], changed["credits"]) == (False, None)
    changed = await operator.change(path, metered=True)
    assert changed["credits"]["balance"] == 5
    entries = len(await operator.audit(object=f"key:{key['id']}"))
    assert await operator.change(path) == changed
    assert await operator.change(path, label="b") == changed
    assert len(await operator.audit(object=f"key:{key['id']}")) == entries, "a change of nothing is none"


async def test_what_is_read_of_limits_can_be_sent_again(operator: Operator) -> None:
    said = {"burst": 3, "tokens_per_min": None, "model_limits": {"llama*": {"tokens_per_min": 9}}}
    key = await operator.make("/api-keys", **said)
    other = await operator.make("/api-keys", **{name: key[name] for name in INHERITED})
    assert {name: other[name] for name in INHERITED} == INHERITED | said
    assert other["effective"] == key["effective"]


async def test_a_walk_over_all_pages_meets_each_key_once_newest_first(operator: Operator) -> None:
    team = await operator.make("/teams", label="t")
    made: list[dict[str, Any]] = []

    async def make(number: int) -> None:
        more = {"team_id": team["id"]} if number % 5 == 0 else {"tier": "basic"} if number % 5 == 1 else {}
        owner = "Ada@Example.org" if number % 2 else "bob@example.org"
        made.append(await operator.make("/api-keys", label=f"number {number:03}", owner_email=owner, **more))

    for start in range(0, KEYS, AT_ONCE):
        await asyncio.gather(*(make(number) for number in range(start, start + AT_ONCE)))
    ids = {key["id"] for key in made}
    for limit in (37, 100, 500):
        found = await operator.walk("/api-keys", limit)
        assert [key["id"] for key in found] == [key["id"] for key in sorted(found, key=_place, reverse=True)]
        assert len(found) == KEYS
        assert {key["id"] for key in found} == ids
    assert len((await operator.get("/api-keys"))["data"]) == 100
    await operator.remove(f"/api-keys/{made[7]['id']}")
    for query, count in (
        ({"label": "NUMBER 00"}, 10),
        ({"label": "%"}, 0),
        ({"owner_email": "ada@example.org"}, KEYS // 2),
        ({"owner_email": "ada"}, 0),
        ({"team_id": team["id"]}, KEYS // 5),
        ({"tier": "basic"}, KEYS // 5),
        ({"enabled": "true"}, KEYS - 1),
        ({"enabled": "false"}, 1),
        ({"tier": "basic", "owner_email": "bob@example.org"}, KEYS // 10),
        ({"tier": "none"}, 0),
    ):
        assert len(await operator.walk("/api-keys", 20, **query)) == count, query
    for query in (
        "limit=0",
        "limit=501",
        "limit=x",
        "enabled=maybe",
        "after=nonsense",
        "after=",
        "lable=x",
        "key_id=x",
    ):
        await operator.refused(400, "invalid_request", "GET", f"/api-keys?{query}")
    await operator.refused(400, "invalid_request", "GET", "/api-keys?limit=1&limit=2")
    await operator.refused(400, "invalid_request", "GET", f"/api-keys/{made[0]['id']}?label=x")


def _place(key: dict[str, Any]) -> tuple[datetime, str]:
    """Where it stands among others. A whole second is written without a fraction, so texts do not sort as times."""
    return datetime.fromisoformat(key["created_at"]), key["id"]


async def test_both_secrets_work_while_a_key_is_rotated(operator: Operator) -> None:
    made = await operator.make("/api-keys", credits=100_000, rate_limit_per_min=None)
    old, path = made["key"], f"/api-keys/{made['id']}"
    began = datetime.now(UTC) - timedelta(seconds=5)
    assert (await operator.call(old)).status_code == 200
    rotated = await operator.make(f"{path}/rotate", overlap_seconds=600)
    new = rotated["key"]
    assert new != old
    assert rotated["id"] == made["id"]
    newest, former = (await operator.get(path))["secrets"]
    assert (newest["last_four"], newest["expires_at"], newest["last_used_at"]) == (new[-4:], None, None)
    assert former["last_four"] == old[-4:]
    assert datetime.fromisoformat(former["last_used_at"]) > began
    left = datetime.fromisoformat(former["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=500) < left <= timedelta(seconds=601)
    for key in (new, old):
        assert (await operator.call(key)).status_code == 200
    newest, former = (await operator.get(path))["secrets"]
    assert datetime.fromisoformat(former["last_used_at"]) >= datetime.fromisoformat(newest["last_used_at"])
    assert (await operator.world.usage(new))["credits"]["charged"] == 3, "they are one key"

    until = former["expires_at"].removesuffix("Z")[:19]
    error = await operator.refused(409, "conflict", "POST", f"{path}/rotate", {"overlap_seconds": 600})
    assert until in error["message"] and "`overlap_seconds` 0" in error["message"]
    for key in (new, old):
        assert (await operator.call(key)).status_code == 200, "a key has two secrets in use, not three"
    last = (await operator.make(f"{path}/rotate", overlap_seconds=0))["key"]
    for key in (new, old):
        assert (await operator.call(key)).status_code == 401
    assert (await operator.call(last)).status_code == 200
    assert len((await operator.get(path))["secrets"]) == 1
    for body in ({"overlap_seconds": -1}, {"overlap_seconds": 2_592_001}, {"overlap": 5}):
        await operator.refused(400, "invalid_request", "POST", f"{path}/rotate", body)


async def test_a_new_secret_that_was_lost_unused_is_replaced(operator: Operator) -> None:
    made = await operator.make("/api-keys", rate_limit_per_min=None)
    old, path = made["key"], f"/api-keys/{made['id']}"
    assert (await operator.call(old)).status_code == 200
    lost = (await operator.make(f"{path}/rotate", overlap_seconds=60))["key"]
    found = (await operator.make(f"{path}/rotate", overlap_seconds=3_600))["key"]
    assert (await operator.call(lost)).status_code == 401
    for key in (old, found):
        assert (await operator.call(key)).status_code == 200
    newest, former = (await operator.get(path))["secrets"]
    assert (newest["last_four"], former["last_four"]) == (found[-4:], old[-4:])
    assert datetime.fromisoformat(former["expires_at"]) - datetime.now(UTC) > timedelta(seconds=3_500)
    await operator.refused(409, "conflict", "POST", f"{path}/rotate", {})


async def test_the_former_secret_ends_with_the_overlap(operator: Operator) -> None:
    made = await operator.make("/api-keys", rate_limit_per_min=None)
    path = f"/api-keys/{made['id']}"
    rotated = await operator.make(f"{path}/rotate", overlap_seconds=1)
    assert len(rotated["secrets"]) == 2
    await operator.until(made["key"], 401)
    (only,) = (await operator.get(path))["secrets"]
    assert only["last_four"] == rotated["key"][-4:]
    assert (await operator.call(rotated["key"])).status_code == 200
    assert len((await operator.make(f"{path}/rotate"))["secrets"]) == 2, "one that has ended is in nobody's way"


async def test_a_key_is_switched_off_and_on(operator: Operator) -> None:
    made = await operator.make("/api-keys", rate_limit_per_min=None)
    path = f"/api-keys/{made['id']}"
    off = await operator.change(path, enabled=False)
    assert (off["enabled"], off["expired"], off["revoked_at"]) == (False, False, None)
    assert (await operator.call(made["key"])).status_code == 401
    assert [one["id"] for one in await operator.walk("/api-keys", 10, enabled="false")] == [made["id"]]
    assert (await operator.change(path, enabled=True))["enabled"] is True
    assert (await operator.call(made["key"])).status_code == 200
    entries = await operator.audit(object=f"key:{made['id']}")
    assert [entry["action"] for entry in entries] == ["update", "update", "create"]
    assert (entries[1]["before"]["enabled"], entries[1]["after"]["enabled"]) == (True, False)
    await operator.refused(400, "invalid_request", "POST", "/api-keys", {"enabled": False})
    await operator.change(path, enabled=False)
    assert (await operator.remove(path))["revoked_at"], "also one that is off can be revoked"


async def test_the_burst_in_force_is_the_number_that_counts(operator: Operator) -> None:
    for said, burst in (
        ({"rate_limit_per_min": 60}, 60),
        ({"rate_limit_per_min": 60, "burst": None}, 60),
        ({"rate_limit_per_min": 60, "burst": 5}, 5),
        ({"rate_limit_per_min": None, "burst": 5}, None),
    ):
        made = await operator.make("/api-keys", **said)
        assert made["effective"]["burst"] == burst
        usage = await operator.world.usage(made["key"])
        assert burst is None or usage["requests_per_min"]["left"] == burst
    assert made["burst"] == 5


async def test_revoking_is_at_once_and_for_good(operator: Operator) -> None:
    made = await operator.make("/api-keys")
    path = f"/api-keys/{made['id']}"
    assert (await operator.call(made["key"])).status_code == 200
    revoked = await operator.remove(path)
    assert (revoked["enabled"], revoked["revoked_at"] is None) == (False, False)
    assert (await operator.call(made["key"])).status_code == 401
    assert await operator.remove(path) == revoked
    assert [entry["action"] for entry in await operator.audit(object=f"key:{made['id']}")] == ["revoke", "create"]
    await operator.refused(409, "conflict", "POST", f"{path}/rotate", {})
    await operator.refused(409, "conflict", "PATCH", path, {"enabled": True})
    assert (await operator.call(made["key"])).status_code == 401


async def test_a_key_expires_by_itself(operator: Operator) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    made = await operator.make("/api-keys", expires_at=soon, rate_limit_per_min=None)
    path = f"/api-keys/{made['id']}"
    assert made["expired"] is False
    await operator.until(made["key"], 401)
    read = await operator.get(path)
    assert (read["expired"], read["enabled"]) == (True, True)
    for overlap in (0, 60):
        error = await operator.refused(409, "conflict", "POST", f"{path}/rotate", {"overlap_seconds": overlap})
        assert "expired" in error["message"]
    assert (await operator.change(path, expires_at=None))["expired"] is False
    assert (await operator.call(made["key"])).status_code == 200


async def test_networks_models_and_scopes_are_kept(operator: Operator, fake: FakeOllama) -> None:
    made = await operator.make("/api-keys", networks=["203.0.113.0/24"], models=["qwen*"], scopes=["pull"])
    path, key, world = f"/api-keys/{made['id']}", made["key"], operator.world
    assert (await operator.call(key)).json()["error"]["code"] == "address_not_allowed"
    await operator.change(path, networks=[])
    assert (await operator.call(key)).json()["error"]["code"] == "scope_missing"
    await operator.change(path, scopes=["inference"])
    assert (await operator.call(key)).json()["error"]["code"] == "model_not_found"
    pull = f"{world.url}/v1/models/pull"
    refused = await world.http.post(pull, headers=bearer(key), json={"model": "qwen3:1b"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
    await operator.change(path, scopes=["inference", "pull"])
    refused = await world.http.post(pull, headers=bearer(key), json={"model": "tinyllama"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert not [one for one in fake.ledger.exchanges if one.path == "/api/pull"]
    await operator.change(path, models=["*llama*"])
    pulled = await world.http.post(pull, headers=bearer(key), json={"model": "tinyllama", "stream": False})
    assert (pulled.status_code, pulled.json()["failed"]) == (200, {})
    assert (await operator.call(key)).status_code == 200
    both = bearer(key) | {"X-Admin-Secret": "a wrong one, whatever the key may do"}
    assert (await world.http.post(pull, headers=both, json={"model": "tinyllama"})).status_code == 401


async def test_a_key_moves_between_teams(operator: Operator) -> None:
    team = await operator.make("/teams", label="a")
    other = await operator.make("/teams", label="b")
    key = await operator.make("/api-keys", team_id=team["id"])
    path = f"/api-keys/{key['id']}"
    assert (await operator.world.usage(key["key"]))["team"]["team_id"] == team["id"]
    assert (await operator.change(path, team_id=other["id"]))["team_id"] == other["id"]
    assert (await operator.world.usage(key["key"]))["team"]["team_id"] == other["id"]
    assert (await operator.change(path, team_id=None))["team_id"] is None
    assert (await operator.world.usage(key["key"]))["team"] is None
    assert (await operator.change(path, team_id=team["id"]))["team_id"] == team["id"]


async def test_an_operator_reads_what_the_holder_reads(operator: Operator) -> None:
    made = await operator.make("/api-keys", credits=3, tokens_per_min=1_000, concurrency=2, rate_limit_per_min=None)
    assert (await operator.call(made["key"], max_tokens=10)).status_code == 200
    path = f"/api-keys/{made['id']}"
    await operator.change(path, tokens_per_min=None)  # it refills between two looks
    await operator.world.rows(1)  # its sums come after it
    assert await operator.get(f"{path}/usage") == await operator.world.usage(made["key"])
    assert (await operator.get(path))["credits"] == {"granted": 3, "charged": 1, "held": 0, "balance": 2}
