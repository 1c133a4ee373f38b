"""What all changes have in common: once is once, nothing unknown is taken, all is audited, and Redis may be away."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from gateway.core.record import ApiKey, Secret, Team, Tier
from tests.acceptance.operators import Operator
from tests.acceptance.test_admin_matrix import EXPECTED, PULL, things
from tests.acceptance.test_outages import Servers, servers  # noqa: F401  a fixture
from tests.world import ADMIN_SECRET, World

SENT_AT_ONCE = 20


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


async def test_a_request_with_an_idempotency_key_is_carried_out_once(operator: Operator) -> None:
    key, team = await operator.make("/api-keys", credits=5), await operator.make("/teams")
    for number, (path, body) in enumerate(
        [
            ("/api-keys", {"label": "once", "credits": 2}),
            (f"/api-keys/{key['id']}/rotate", {"overlap_seconds": 60}),
            ("/teams", {"label": "once"}),
            ("/tiers", {"name": "once"}),
            ("/prices", {"model": "once", "per_request": 1}),
            ("/credits", {"id": "once", "team_id": team["id"], "credits": 1}),
        ]
    ):
        asked = {"Idempotency_Key": f"!key-{number}~"}
        replies = await asyncio.gather(*(operator.ask("POST", path, body, **asked) for _ in range(SENT_AT_ONCE)))
        statuses = {reply.status_code for reply in replies}
        assert statuses == ({200, 201} if path == "/credits" else {201}), (path, replies[0].text)
        objects = [reply.json() for reply in replies]
        assert len({one.get("id", one.get("name")) for one in objects}) == 1
        shown = [one for one in objects if one.get("key")]
        if "api-keys" in path:
            assert len(shown) == 1
            before = [one["message"] for one in objects if not one["key"]]
            assert set(before) == {"This request was carried out before. The key was shown then, and only then."}
            assert (await operator.call(shown[0]["key"])).status_code == 200
        other = await operator.ask("POST", path, body | {"label": "other"} if path == "/teams" else {"x": 1}, **asked)
        assert other.status_code in (400, 409)
    for path, body in (("/teams", {"label": "other"}), ("/tiers", {"name": "other"})):
        reply = await operator.ask("POST", path, body, Idempotency_Key="!key-2~")
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "idempotency_mismatch")
    assert [one["label"] for one in await operator.walk("/api-keys", 10)].count("once") == 1
    assert len(await operator.walk("/teams", 10)) == 2
    for bad in ("x" * 201, "a b", "ä"):
        reply = await operator.ask("POST", "/teams", {}, Idempotency_Key=bad)
        assert reply.status_code == 400


NO_JSON: tuple[tuple[bytes, str], ...] = (
    (b"", "The body is empty: send a JSON object"),
    (b"  ", "The body is empty: send a JSON object"),
    (b"{", "The body is not valid JSON"),
    (b"{,}", "The body is not valid JSON"),
    (b"\xff", "The body is not valid JSON"),
)


async def test_a_body_that_is_no_json_is_said_to_be_none(operator: Operator) -> None:
    there = await things(operator.world, 0)
    for route, entry in EXPECTED.items():
        if entry.body is None:
            continue
        method, url = route.partition(" ")[0], operator.world.url + there.path(route)
        no_text = [
            f'{{"{name}": "'.encode() + b'\xc3("}' for name, value in entry.body.items() if isinstance(value, str)
        ]
        for body, words in (*NO_JSON, *((body, "The body is not valid JSON") for body in no_text)):
            secret = {"X-Admin-Secret": ADMIN_SECRET}
            reply = await operator.world.http.request(method, url, headers=secret, content=body)
            error = reply.json()["error"]
            assert (reply.status_code, error["code"]) == (400, "invalid_json"), (route, body, reply.text)
            assert error["message"].startswith(words)


async def test_a_replay_answers_with_what_is_now(operator: Operator) -> None:
    asked = {"Idempotency_Key": "one"}
    made = (await operator.ask("POST", "/api-keys", {"label": "a"}, **asked)).json()
    await operator.change(f"/api-keys/{made['id']}", label="b")
    again = (await operator.ask("POST", "/api-keys", {"label": "a"}, **asked)).json()
    assert (again["id"], again["label"], again["key"]) == (made["id"], "b", None)


async def test_no_body_takes_a_field_that_is_not_its_own(operator: Operator) -> None:
    there = await things(operator.world, 0)
    connection = await asyncpg.connect(operator.world.database_url)
    columns = {
        row["column_name"]
        for row in await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'"
        )
    }
    fields = {name for struct in (ApiKey, Secret, Team, Tier) for name in struct.__struct_fields__}
    tables = ("api_keys", "api_key_secrets", "teams", "tiers", "prices", "credit_grants", "audit_log")
    before = [await connection.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]
    tried = 0
    for route, entry in EXPECTED.items():
        method, path = route.partition(" ")[0], there.path(route)
        if entry.body is None or route == PULL:
            continue
        own = set(_fields_of(route))
        for name in sorted((columns | fields | {"key", "secret", "admin", "__class__", ""}) - own):
            body = json.loads(there.body(entry)) | {name: 1}
            await operator.refused(400, "invalid_request", method, path.removeprefix("/admin"), body)
            tried += 1
    assert [await connection.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables] == before
    await connection.close()
    assert tried > 300


def _fields_of(route: str) -> list[str]:
    from gateway.web.operations import OPERATIONS

    method, path = route.split(" ")
    (operation,) = [one for one in OPERATIONS if (one.method.upper(), one.path) == (method, path)]
    return list(operation.request.__struct_fields__)


async def test_every_change_is_told_with_who_what_before_after_and_where(operator: Operator) -> None:
    ids: dict[str, str] = {}

    async def do(method: str, path: str, body: Any, action: str, object: str) -> None:
        reply = await operator.ask(method, path, body, X_Admin_Actor="Zoë")
        assert reply.is_success, reply.text
        ids.setdefault(object, str(reply.json().get("id", "")))
        (entry, *_) = await operator.audit()
        kind, _, name = entry["object"].partition(":")
        assert (entry["actor"], entry["action"], kind) == ("Zoë", action, object)
        assert entry["request_id"] == reply.headers["x-request-id"]
        assert (entry["before"] is None) == (action == "create")
        assert (entry["after"] is None) == (action == "remove")
        assert entry["before"] != entry["after"]
        assert name

    await do("POST", "/teams", {"label": "t"}, "create", "team")
    await do("POST", "/tiers", {"name": "gold"}, "create", "tier")
    await do("POST", "/api-keys", {"label": "k", "tier": "gold"}, "create", "key")
    await do(
        "POST", "/prices", {"model": "m", "per_request": 1, "valid_from": "2999-01-01T00:00:00Z"}, "create", "price"
    )
    await do("PATCH", f"/teams/{ids['team']}", {"burst": 1}, "update", "team")
    await do("PATCH", "/tiers/gold", {"multiplier": 3}, "update", "tier")
    await do("PATCH", f"/api-keys/{ids['key']}", {"label": "l", "tier": None}, "update", "key")
    await do("POST", f"/api-keys/{ids['key']}/rotate", {}, "rotate", "key")
    await do("POST", "/credits", {"id": "a", "key_id": ids["key"], "credits": 1}, "grant", "key")
    await do("POST", "/credits", {"id": "b", "team_id": ids["team"], "credits": 1}, "grant", "team")
    await do("DELETE", f"/prices/{ids['price']}", None, "remove", "price")
    await do("DELETE", "/tiers/gold", None, "remove", "tier")
    await do("DELETE", f"/teams/{ids['team']}", None, "remove", "team")
    await do("DELETE", f"/api-keys/{ids['key']}", None, "revoke", "key")

    entries = await operator.audit()
    assert [entry["id"] for entry in entries] == sorted((entry["id"] for entry in entries), reverse=True)
    for start in (1, 3):
        assert await operator.walk("/audit", start) == entries
    assert len(await operator.audit(object=f"key:{ids['key']}")) == 5
    assert len(await operator.audit(action="grant")) == 2
    assert len(await operator.audit(actor="Zoë", action="remove")) == 3
    assert await operator.audit(actor="admin") == []
    update = (await operator.audit(object=f"key:{ids['key']}", action="update"))[0]
    assert (update["before"]["label"], update["after"]["label"]) == ("k", "l")


async def test_nothing_secret_is_stored_but_digests(operator: Operator) -> None:
    made = await operator.make("/api-keys", credits=1)
    rotated = await operator.make(f"/api-keys/{made['id']}/rotate")
    connection = await asyncpg.connect(operator.world.database_url)
    named = await connection.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    rows = {row[0]: await connection.fetch(f"SELECT t::text FROM {row[0]} AS t") for row in named}
    texts = {table: "".join(row[0] for row in found) for table, found in rows.items()}
    digests = [row["digest"] for row in await connection.fetch("SELECT digest FROM api_key_secrets")]
    await connection.close()
    assert len(digests) == 2
    for key in (made["key"], rotated["key"]):
        secret = key[14:]
        assert not [table for table, text in texts.items() if secret in text]
    assert not [table for table, text in texts.items() if ADMIN_SECRET in text]
    for digest in digests:
        assert [table for table, text in texts.items() if digest in text] == ["api_key_secrets"]
    listed = await operator.world.http.get(
        f"{operator.world.url}/admin/audit", headers={"X-Admin-Secret": ADMIN_SECRET}
    )
    assert "digest" not in listed.text


async def test_an_actor_is_a_short_printable_name(operator: Operator) -> None:
    for bad in ("x" * 65, "a\u202eb", b"\xff\xfe", "a\tb"):
        reply = await operator.ask("POST", "/teams", {}, X_Admin_Actor=bad)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
    assert (await operator.ask("POST", "/teams", {}, X_Admin_Actor="")).status_code == 201
    assert [entry["actor"] for entry in await operator.audit()] == ["admin"]


async def test_while_redis_is_away_changes_are_saved_and_said_to_be(servers: Servers) -> None:  # noqa: F811
    world, valkey, _ = servers
    operator = Operator(world)
    key = await operator.make("/api-keys", rate_limit_per_min=None)
    granted = await operator.make("/api-keys", credits=5)
    team = await operator.make("/teams", credits=5)
    path = f"/api-keys/{key['id']}"
    await valkey.kill()
    made = await operator.make("/api-keys", label="made meanwhile")
    assert made["message"].endswith("It starts to work when the gateway's Redis is back.")
    rotated = await operator.make(f"{path}/rotate", overlap_seconds=0)
    assert "The former one works until then." in rotated["message"]
    assert (await operator.make("/teams", label="made meanwhile"))["credits"] is None
    for method, where, body in (
        ("PATCH", path, {"rate_limit_per_min": 7}),
        ("PATCH", "/tiers/premium", {"rate_limit_per_min": 9}),
        ("PATCH", f"/teams/{team['id']}", {"concurrency": 3}),
        ("POST", "/credits", {"id": "meanwhile", "key_id": granted["id"], "credits": 4}),
        ("POST", "/prices", {"model": "m", "per_request": 1}),
        ("DELETE", f"/api-keys/{granted['id']}", None),
    ):
        if where == "/tiers/premium":
            await operator.make("/api-keys", tier="premium")
        error = await operator.refused(503, "not_in_force_yet", method, where, body)
        assert "is saved" in error["message"]
    back = {"id": "back", "key_id": granted["id"], "credits": -1}
    await operator.refused(503, "limits_unavailable", "POST", "/credits", back)
    await operator.refused(503, "limits_unavailable", "GET", f"{path}/usage")
    read = await operator.get(f"/api-keys/{granted['id']}")
    assert (read["credits"], read["metered"], read["enabled"]) == (None, True, False)
    assert {one["id"] for one in await operator.walk("/credits", 10)} == {
        "meanwhile",
        f"opening-{granted['id']}",
        f"opening-{team['id']}",
    }

    await valkey.start()
    await operator.until(made["key"], 200)
    await operator.until(rotated["key"], 200)
    await operator.until(key["key"], 401)
    await operator.until(granted["key"], 401)
    async with asyncio.timeout(10):
        while (await world.usage(rotated["key"]))["requests_per_min"]["limit"] != 7:
            await asyncio.sleep(0.02)
    assert (await operator.get(f"/api-keys/{granted['id']}"))["credits"]["balance"] == 9
