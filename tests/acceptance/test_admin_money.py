"""Teams, tiers, prices and grants through HTTP, and what calls then cost."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.operators import Operator
from tests.world import World

LATER = "2999-01-01T00:00:00Z"
REPLAYS = 100


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


async def test_a_team_is_made_changed_read_and_removed(operator: Operator) -> None:
    made = await operator.make("/teams", label="research", rate_limit_per_min=2, credits=10, model_limits={"Qwen*": {}})
    path = f"/teams/{made['id']}"
    assert made["credits"] == {"granted": 10, "charged": 0, "held": 0, "balance": 10}
    assert (made["rate_limit_per_min"], made["burst"], made["model_limits"]) == (2, None, {"qwen*": {}})
    assert await operator.get(path) == made
    assert await operator.walk("/teams", 1) == [made]
    key = await operator.make("/api-keys", team_id=made["id"], rate_limit_per_min=None)
    other = await operator.make("/api-keys", team_id=made["id"], rate_limit_per_min=None)
    for one in (key, other):
        assert (await operator.call(one["key"])).status_code == 200
    refused = await operator.call(key["key"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (await operator.get(path))["credits"] == {"granted": 10, "charged": 2, "held": 0, "balance": 8}
    usage = await operator.get(f"{path}/usage")
    assert usage["credits"]["charged"] == 2
    assert usage == (await operator.world.usage(key["key"]))["team"] | {"requests_per_min": usage["requests_per_min"]}

    changed = await operator.change(path, rate_limit_per_min=None, label="renamed")
    assert (changed["rate_limit_per_min"], changed["label"]) == (None, "renamed")
    assert (await operator.call(key["key"])).status_code == 200
    assert (await operator.change(path, metered=False))["credits"] is None
    assert (await operator.change(path, shadow=True, concurrency=1))["shadow"] is True
    await operator.refused(409, "conflict", "DELETE", path)
    for one in (key, other):
        await operator.change(f"/api-keys/{one['id']}", team_id=None)
    await operator.world.rows(3)
    await operator.change(path, metered=True)
    without_keys = await operator.get(f"{path}/usage")
    assert without_keys["credits"]["charged"] == 3, "told by the rows, as Redis is asked by way of a key"
    assert await operator.remove(path) == {"id": made["id"], "removed": True}
    for method in ("GET", "DELETE"):
        await operator.refused(404, "team_not_found", method, path)
    for body in ({"label": ""}, {"credits": -1}, {"metered": True}, {"tier": "basic"}, {"models": []}):
        await operator.refused(400, "invalid_request", "POST", "/teams", body)
    await operator.refused(400, "invalid_request", "PATCH", path, {"credits": 1})


async def test_a_tier_gives_limits_and_a_multiplier_to_all_of_its_keys(operator: Operator) -> None:
    made = await operator.make("/tiers", name="gold", multiplier=0.125, rate_limit_per_min=300)
    assert (made["multiplier"], made["rate_limit_per_min"], made["burst"]) == (0.125, 300, "inherit")
    assert await operator.get("/tiers/gold") == made
    keys = [await operator.make("/api-keys", tier="gold", credits=1) for _ in range(3)]
    plain = await operator.make("/api-keys", credits=1)
    for key in (*keys, plain):
        assert (await operator.call(key["key"])).status_code == 200
    assert (await operator.world.usage(keys[0]["key"]))["credits"]["charged"] == 0.125
    assert (await operator.world.usage(plain["key"]))["credits"]["charged"] == 1

    await operator.change("/tiers/gold", multiplier=0, rate_limit_per_min=3)
    for key in keys:
        usage = await operator.world.usage(key["key"])
        assert usage["requests_per_min"]["limit"] == 3
        assert (await operator.call(key["key"])).status_code == 200
        assert (await operator.world.usage(key["key"]))["credits"]["charged"] == 0.125, "it costs nothing now"
    await operator.refused(409, "conflict", "DELETE", "/tiers/gold")
    await operator.refused(409, "conflict", "POST", "/tiers", {"name": "gold"})
    for key in keys:
        await operator.change(f"/api-keys/{key['id']}", tier=None)
    assert (await operator.world.usage(keys[0]["key"]))["requests_per_min"]["limit"] == 20
    assert await operator.remove("/tiers/gold") == {"id": "gold", "removed": True}
    for method in ("GET", "DELETE"):
        await operator.refused(404, "tier_not_found", method, "/tiers/gold")
    for bad in ("Gold", "", "a" * 33, "1a", "a b", "ä", "gold\n"):
        error = await operator.refused(400, "invalid_request", "POST", "/tiers", {"name": bad})
        assert error["param"] == "name" and "regex" not in error["message"] and "tiers_" not in error["message"]
    for number in (-1, 101, 0.0001, "x", None):
        await operator.refused(400, "invalid_request", "PATCH", "/tiers/basic", {"multiplier": number})
    await operator.refused(400, "invalid_request", "PATCH", "/tiers/basic", {"name": "other"})
    assert [(one["name"], one["multiplier"]) for one in await operator.walk("/tiers", 1)] == [
        ("basic", 2),
        ("premium", 1),
    ]


async def test_prices_are_in_force_from_their_time_on(operator: Operator) -> None:
    key = await operator.make("/api-keys", credits=1_000, rate_limit_per_min=None)

    async def cost() -> float:
        before = (await operator.world.usage(key["key"]))["credits"]["charged"]
        reply = await operator.call(key["key"])
        assert reply.status_code == 200
        tokens.update(reply.json()["usage"])
        return float((await operator.world.usage(key["key"]))["credits"]["charged"] - before)

    tokens: dict[str, Any] = {}
    assert await cost() == 1
    now = await operator.make("/prices", model="LLAMA3.2:3b", per_request=0.5, per_1k_completion_tokens=1)
    assert (now["model"], now["per_request"], now["per_1k_prompt_tokens"]) == ("llama3.2:3b", 0.5, 0)
    assert await cost() == pytest.approx(0.5 + tokens["completion_tokens"] / 1_000)
    later = await operator.make("/prices", model="llama3.2:3b", valid_from=LATER, per_request=9)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    await operator.make("/prices", model="llama3.2:3b", valid_from=soon, per_request=0)
    async with asyncio.timeout(10):
        while await cost():
            pass
    assert await operator.walk("/prices", 2, model="Llama3.2:3b") == await operator.walk(
        "/prices", 500, model="llama3.2:3b"
    )
    found = await operator.walk("/prices", 1)
    assert [one["model"] for one in found] == ["llama3.2:3b"] * 3 + ["*"]
    assert found[0] == later
    await operator.refused(
        409, "conflict", "POST", "/prices", {"model": "llama3.2:3b", "valid_from": LATER, "per_request": 1}
    )
    await operator.refused(409, "conflict", "DELETE", f"/prices/{now['id']}")
    assert await operator.remove(f"/prices/{later['id']}") == {"id": str(later["id"]), "removed": True}
    for unknown in (later["id"], 0, 2**63, "9" * 50):
        await operator.refused(404, "price_not_found", "DELETE", f"/prices/{unknown}")
    await operator.refused(404, "route_not_found", "DELETE", "/prices/x")
    for body in (
        {"model": "m"},
        {"per_request": 1},
        {"model": "no name", "per_request": 1},
        {"model": "llama*", "per_request": 1},
        {"model": "m", "per_request": -1},
        {"model": "m", "per_request": 1_001},
        {"model": "m", "per_1k_prompt_tokens": 0.0000001},
        {"model": "m", "per_request": 1, "valid_from": "2020-01-01T00:00:00Z"},
        {"model": "m", "per_request": 1, "valid_from": "1970-01-01T00:00:00Z"},
        {"model": "m", "per_request": 1, "valid_from": "1969-01-01T00:00:00Z"},
        {"model": "m", "per_request": 1, "valid_from": "2020-01-01"},
    ):
        await operator.refused(400, "invalid_request", "POST", "/prices", body)


async def test_a_grant_counts_once_however_often_it_is_sent(operator: Operator) -> None:
    key = await operator.make("/api-keys", credits=1)
    body = {"id": "invoice-7", "key_id": key["id"], "credits": 2.5, "note": "paid"}
    replies = await asyncio.gather(*(operator.ask("POST", "/credits", body) for _ in range(REPLAYS)))
    assert sorted(reply.status_code for reply in replies) == [200] * (REPLAYS - 1) + [201]
    assert len({reply.text for reply in replies}) == 1
    assert (await operator.get(f"/api-keys/{key['id']}"))["credits"]["balance"] == 3.5
    assert [entry["action"] for entry in await operator.audit(object=f"key:{key['id']}")] == ["grant", "create"]
    for other in ({"credits": 3}, {"note": ""}, {"key_id": (await operator.make("/api-keys"))["id"]}):
        await operator.refused(409, "conflict", "POST", "/credits", body | other)
    ledger = await operator.walk("/credits", 1, key_id=key["id"])
    assert [(one["id"], one["credits"]) for one in ledger] == [("invoice-7", 2.5), (f"opening-{key['id']}", 1)]


async def test_what_is_spent_or_held_cannot_be_taken_back(operator: Operator) -> None:
    key = await operator.make("/api-keys", credits=5)
    team = await operator.make("/teams", credits=5)
    member = await operator.make("/api-keys", team_id=team["id"])
    for one in (key, member):
        assert (await operator.call(one["key"])).status_code == 200
    for name, owner in (("key_id", key), ("team_id", team)):
        for number, (credits, status) in enumerate([(-4.5, 409), (-3, 201), (-2, 409), (-1, 201), (-0.000001, 409)]):
            body = {"id": f"{name}-{number}", name: owner["id"], "credits": credits}
            reply = await operator.ask("POST", "/credits", body)
            assert reply.status_code == status, (credits, reply.text)
            if status == 201:
                assert (await operator.ask("POST", "/credits", body)).status_code == 200
    assert (await operator.get(f"/api-keys/{key['id']}"))["credits"]["balance"] == 0
    assert (await operator.get(f"/teams/{team['id']}"))["credits"]["balance"] == 0
    assert (await operator.call(key["key"])).json()["error"]["code"] == "insufficient_quota"
    assert (await operator.call(member["key"])).json()["error"]["code"] == "insufficient_quota"
    assert (await operator.get("/reconcile"))["agrees"]


async def test_two_at_once_cannot_take_back_more_than_there_is(operator: Operator) -> None:
    key = await operator.make("/api-keys", credits=5)
    assert (await operator.call(key["key"])).status_code == 200
    bodies = [{"id": f"back-{number}", "key_id": key["id"], "credits": -3} for number in range(8)]
    replies = await asyncio.gather(*(operator.ask("POST", "/credits", body) for body in bodies))
    assert sorted(reply.status_code for reply in replies) == [201] + [409] * 7
    assert (await operator.get(f"/api-keys/{key['id']}"))["credits"]["balance"] == 1


async def test_a_first_grant_makes_a_key_metered(operator: Operator) -> None:
    key = await operator.make("/api-keys")
    assert (await operator.call(key["key"])).status_code == 200
    await operator.make("/credits", id="first", key_id=key["id"], credits=0.5)
    read = await operator.get(f"/api-keys/{key['id']}")
    assert (read["metered"], read["credits"]["balance"]) == (True, 0.5)
    assert (await operator.call(key["key"])).json()["error"]["code"] == "insufficient_quota"


async def test_grants_say_whom_they_are_for(operator: Operator) -> None:
    key, team = await operator.make("/api-keys"), await operator.make("/teams")
    both = {"key_id": key["id"], "team_id": team["id"]}
    good = {"id": "g", "key_id": key["id"], "credits": 1}
    for bad in (both, {"key_id": None}, {"credits": 0}, {"credits": 2e9}, {"credits": 1e-7}, {"id": ""}, {"id": "a b"}):
        await operator.refused(400, "invalid_request", "POST", "/credits", good | bad)
    for bad in ({"id": "a b"}, {"id": "a\n"}):
        error = await operator.refused(400, "invalid_request", "POST", "/credits", good | bad)
        assert (error["param"], error["message"]) == ("id", "The id of a grant has up to 100 visible ASCII characters.")
    for bad in ({"id": "x" * 101}, {"note": "a\x00b"}, {"note": "x" * 501}, {"amount": 1}, {"granted_by": "me"}):
        await operator.refused(400, "invalid_request", "POST", "/credits", good | bad)
    await operator.refused(404, "key_not_found", "POST", "/credits", good | {"key_id": "0000000000"})
    unknown = {"id": "g", "team_id": "0000000000", "credits": 1}
    await operator.refused(404, "team_not_found", "POST", "/credits", unknown)
    assert await operator.walk("/credits", 10) == []
