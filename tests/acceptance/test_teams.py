"""Keys of one team share its budget, over all replicas, beside limits of their own."""

import asyncio
import time
from typing import Any

import httpx

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import PATH
from tests.world import World, bearer, chat

LIMIT = 20
CALLS = 200
SECONDS_A_REQUEST = 60 / LIMIT
TEAMS_WORDS = "The limit is one of the key's team."


async def _team(world: World, keys: int, **fields: Any) -> tuple[str, list[str]]:
    """A new team and keys in it without limits of their own."""
    team = str((await world.admin("POST", "/admin/teams", json={"label": "team", **fields})).json()["id"])
    free = {"rate_limit_per_min": None, "monthly_token_limit": None}
    return team, [await world.create_key(team_id=team, **free) for _ in range(keys)]


async def test_a_budget_shared_by_two_keys_over_two_replicas_is_exact(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        team, (one, two) = await _team(world, 2, rate_limit_per_min=LIMIT)
        began = time.monotonic()
        calls = (_ask(world, (one, two)[number % 2], number // 2 % 2) for number in range(CALLS))
        replies = await asyncio.gather(*calls)
        refilled = int((time.monotonic() - began) / SECONDS_A_REQUEST)
        admitted = [reply for reply in replies if reply.status_code == 200]
        refused = [reply for reply in replies if reply.status_code == 429]
        assert len(admitted) + len(refused) == CALLS
        assert LIMIT <= len(admitted) <= LIMIT + refilled
        for reply in refused:
            assert TEAMS_WORDS in reply.json()["error"]["message"]
            assert 1 <= int(reply.headers["retry-after"]) <= SECONDS_A_REQUEST
            assert reply.headers["x-ratelimit-limit-requests"] == str(LIMIT)
        rows = await world.rows(len(admitted))
        assert {row["team_id"] for row in rows} == {team}
        assert {row["api_key_id"] for row in rows} <= {one.split("_")[1][:10], two.split("_")[1][:10]}
        usage = await world.usage(one)
        assert usage["requests_per_min"] is None
        assert usage["team"]["requests_per_min"]["limit"] == LIMIT
        assert usage["team"]["monthly_tokens"]["spent"] == sum(row["total_tokens"] for row in rows)


async def test_concurrency_of_a_team_counts_calls_of_all_its_keys(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        _, keys = await _team(world, 2, concurrency=3)
        fake.behaviour = Behaviour(first_byte_ms=3_000)
        calls = [asyncio.create_task(_ask(world, keys[number % 2], number // 2 % 2)) for number in range(10)]
        await fake.ledger.until(lambda ledger: ledger.open == 3)
        replies = await asyncio.gather(*calls)
        assert sorted(reply.status_code for reply in replies) == [200] * 3 + [429] * 7
        assert fake.ledger.peak == 3
        assert all(TEAMS_WORDS in reply.json()["error"]["message"] for reply in replies if reply.status_code == 429)
        await world.rows(3)


async def test_credits_of_a_team_run_out_for_all_its_keys_at_once(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        team, keys = await _team(world, 3, credits=7)
        replies = await asyncio.gather(*(_ask(world, keys[number % 3], number % 2) for number in range(50)))
        assert sum(reply.status_code == 200 for reply in replies) == 7
        assert {reply.json()["error"]["code"] for reply in replies if reply.status_code != 200} <= {
            "insufficient_quota",
            "rate_limit_exceeded",  # while running calls hold what is left
        }
        for key in keys:
            spent = await _ask(world, key, 0)
            assert (spent.status_code, spent.json()["error"]["code"]) == (429, "insufficient_quota")
        report = (await world.admin("GET", f"/admin/teams/{team}/usage")).json()
        assert (report["credits"]["balance"], report["credits"]["held"]) == (0, 0)
        rows = await world.rows(7)
        assert sum(row["team_credits_micro"] for row in rows) == 7_000_000
        assert sum(row["credits_micro"] for row in rows) == 0, "the keys keep no credits of their own"


async def test_a_key_has_to_fit_its_own_limits_too(world: World) -> None:
    team, (free,) = await _team(world, 1, rate_limit_per_min=LIMIT)
    narrow = await world.create_key(team_id=team, rate_limit_per_min=1)
    assert [(await _ask(world, narrow)).status_code for _ in range(2)] == [200, 429]
    refused = await _ask(world, narrow)
    assert TEAMS_WORDS not in refused.json()["error"]["message"]
    assert (await _ask(world, free)).status_code == 200
    assert (await world.usage(free))["team"]["requests_per_min"]["left"] == LIMIT - 2
    await world.rows(2)


async def test_a_teams_limit_that_is_changed_is_in_force_for_its_keys(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        team, (key,) = await _team(world, 1, rate_limit_per_min=1_000)
        for replica in (0, 1):
            assert (await _ask(world, key, replica)).status_code == 200
        await world.admin("PATCH", f"/admin/teams/{team}", json={"rate_limit_per_min": 1})
        assert [(await _ask(world, key, number % 2)).status_code for number in range(3)] == [200, 429, 429]
        await world.rows(3)


async def _ask(world: World, key: str, replica: int = 0) -> httpx.Response:
    return await world.http.post(world.replicas[replica][1] + PATH, headers=bearer(key), json=chat())
