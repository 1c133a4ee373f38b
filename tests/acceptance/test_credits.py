"""Credits: reserved at the worst case, charged at what it came to, never below zero, refunded in full on failure."""

import asyncio
from typing import Any

import httpx

from gateway.core import keys
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import PATH
from tests.world import World, bearer, chat

CALLS = 50


async def _price(world: World, **parts: float) -> None:
    await world.admin("POST", "/admin/prices", json={"model": "*", **parts})


async def _credits(world: World, key: str) -> dict[str, Any]:
    found: dict[str, Any] = (await world.usage(key))["credits"]
    return found


async def test_the_cap_is_shrunk_to_what_is_left_and_the_header_says_so(world: World, fake: FakeOllama) -> None:
    await _price(world, per_1k_completion_tokens=1)
    key = await world.create_key(credits=0.1, monthly_token_limit=None)
    fake.behaviour = Behaviour(tokens=5_000)
    reply = await _ask(world, key, chat(max_tokens=5_000))
    assert reply.status_code == 200
    assert reply.headers["x-gateway-max-tokens"] == "100"
    assert reply.json()["choices"][0]["finish_reason"] == "length"
    assert reply.json()["usage"]["completion_tokens"] == 100
    assert await _credits(world, key) == {"balance": 0, "held": 0, "granted": 0.1, "charged": 0.1}
    spent = await _ask(world, key)
    assert (spent.status_code, spent.json()["error"]["code"]) == (429, "insufficient_quota")
    (row,) = await world.rows(1)
    assert row["credits_micro"] == 100_000


async def test_what_was_not_used_comes_back(world: World, fake: FakeOllama) -> None:
    await _price(world, per_request=0.5, per_1k_prompt_tokens=1, per_1k_completion_tokens=2)
    key = await world.create_key(credits=100, monthly_token_limit=None)
    fake.behaviour = Behaviour(tokens=1_000)
    reply = await _ask(world, key, chat(max_tokens=10_000))
    assert "x-gateway-max-tokens" not in reply.headers
    prompt = reply.json()["usage"]["prompt_tokens"]
    charged = 0.5 + prompt / 1_000 + 2
    assert await _credits(world, key) == {
        "balance": round(100 - charged, 6),
        "held": 0,
        "granted": 100,
        "charged": round(charged, 6),
    }
    await world.rows(1)


async def test_a_tier_multiplies_the_price(world: World) -> None:
    await world.admin("POST", "/admin/tiers", json={"name": "double", "multiplier": 2})
    key = await world.create_key(credits=5, tier="double")
    assert [(await _ask(world, key)).status_code for _ in range(3)] == [200, 200, 429]
    assert (await _credits(world, key))["balance"] == 1
    await world.rows(2)


async def test_the_balance_never_goes_below_zero(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        await _price(world, per_1k_completion_tokens=10)
        key = await world.create_key(credits=5, rate_limit_per_min=1_000, monthly_token_limit=None)
        fake.behaviour = Behaviour(tokens=60, tokens_per_s=60)
        calls = [asyncio.create_task(_ask(world, key, chat(max_tokens=60), number % 2)) for number in range(CALLS)]
        await fake.ledger.until(lambda ledger: ledger.open >= 8)  # each holds 0.6 of the five
        running = await _credits(world, key)
        assert running["balance"] >= running["held"] > 0
        replies = await asyncio.gather(*calls)
        admitted = [reply for reply in replies if reply.status_code == 200]
        for reply in replies:
            if reply.status_code != 200:
                code = reply.json()["error"]["code"]
                assert (reply.status_code, code) in ((429, "rate_limit_exceeded"), (429, "insufficient_quota"))
                assert ("retry-after" in reply.headers) == (code == "rate_limit_exceeded")
        rows = await world.rows(len(admitted))
        left = await _credits(world, key)
        assert left["balance"] == round(5 - sum(row["credits_micro"] for row in rows) / 1_000_000, 6) >= 0
        assert left["held"] == 0
        assert min(row["credits_micro"] for row in rows) > 0


async def test_a_whole_balance_can_be_spent_to_the_last_credit(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        key = await world.create_key(credits=5, rate_limit_per_min=1_000)
        replies = await asyncio.gather(*(_ask(world, key, replica=number % 2) for number in range(CALLS)))
        assert sum(reply.status_code == 200 for reply in replies) == 5
        assert (await _credits(world, key))["balance"] == 0
        for path in ("/generate", "/v1/generate"):
            plain = await world.http.post(world.url + path, headers=bearer(key), json={"prompt": "hi"})
            assert (plain.status_code, plain.json()["error"]) == (403, "Insufficient credits")
        await world.rows(5)


async def test_failures_are_refunded_in_full(world: World, fake: FakeOllama) -> None:
    key, other = await world.create_key(credits=5), await world.create_key()
    for failing in (
        Behaviour(status=500),
        Behaviour(error_after_tokens=3),
        Behaviour(truncate=True),
        Behaviour(drop_after_chunks=2),
    ):
        fake.behaviour = failing
        streamed = await world.http.post(world.url + PATH, headers=bearer(key), json=chat(stream=True))
        assert streamed.status_code >= 500 or '"error"' in streamed.text
        fake.behaviour = Behaviour()  # three failures on end, and the gateway would leave the node alone
        (await world.http.post(world.url + PATH, headers=bearer(other), json=chat())).raise_for_status()
    assert await _credits(world, key) == {"balance": 5, "held": 0, "granted": 5, "charged": 0}
    usage = await world.usage(key)
    assert (usage["monthly_tokens"]["spent"], usage["monthly_tokens"]["held"]) == (0, 0)
    rows = [row for row in await world.rows(8) if row["api_key_id"] == keys.id_of(key)]
    assert len(rows) == 4
    assert {row["credits_micro"] for row in rows} == {0}
    assert "ok" not in {row["status"] for row in rows}


async def _ask(world: World, key: str, body: dict[str, object] | None = None, replica: int = 0) -> httpx.Response:
    return await world.http.post(world.replicas[replica][1] + PATH, headers=bearer(key), json=body or chat())
