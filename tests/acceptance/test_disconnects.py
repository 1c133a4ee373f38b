"""Clients that leave: the backend is let go at once, the call is charged for what it had, nothing is left open."""

import asyncio
import random
import time
from typing import Any

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ledger import Exchange
from gateway.dev.fake_ollama import FakeOllama
from tests.world import World, bearer, chat, credits_left

LEAVERS = 200
SLOW = Behaviour(tokens=400, tokens_per_s=40)
UNHURRIED = Behaviour(tokens=400, tokens_per_s=15)
"""for many at once: what a node sends and nobody has read yet is this test's only slack, a token a call"""
UPSTREAM_CLOSED_S = 1.0


async def leave_after(world: World, key: str, path: str, body: dict[str, Any], lines: int) -> tuple[str, int, float]:
    """Read so many non-empty lines of a stream, then leave. The request id, the lines read, and when."""
    async with world.http.stream("POST", world.url + path, headers=bearer(key), json=body) as reply:
        assert reply.status_code == 200, await reply.aread()
        seen = 0
        async for line in reply.aiter_lines():
            seen += bool(line)
            if seen == lines:
                break
        return reply.headers["x-request-id"], seen, time.time()


async def test_a_client_that_leaves_an_sse_stream_is_charged_for_the_chunks_that_were_seen(
    world: World, fake: FakeOllama
) -> None:
    await _leave_and_check(world, fake, "/v1/chat/completions", chat(stream=True))


async def test_a_client_that_leaves_an_ndjson_stream_is_charged_for_the_chunks_that_were_seen(
    world: World, fake: FakeOllama
) -> None:
    await _leave_and_check(world, fake, "/v1/generate", {"prompt": "hi", "stream": True})


async def _leave_and_check(world: World, fake: FakeOllama, path: str, body: dict[str, Any]) -> None:
    key = await world.create_key(credits=5)
    fake.behaviour = SLOW
    call_id, seen, left_at = await leave_after(world, key, path, body, 7)
    await fake.ledger.until(lambda ledger: ledger.left)
    exchange = fake.ledger.left[0]
    assert exchange.disconnected_at is not None
    assert exchange.disconnected_at - left_at < UPSTREAM_CLOSED_S
    assert not exchange.backed_up

    (row,) = await world.rows(1)
    assert str(row["id"]) == call_id
    assert (row["status"], row["estimated"]) == ("client_gone", True)
    assert seen <= row["completion_tokens"] <= exchange.tokens_sent <= row["completion_tokens"] + 1
    assert row["prompt_tokens"] > 0
    assert (await world.usage(key))["monthly_tokens"]["spent"] == row["total_tokens"]
    assert (await world.usage(key))["credits"] == credits_left(4, of=5)
    assert await world.leases() == 0


async def test_a_client_that_leaves_before_the_first_token_pays_for_the_prompt_and_no_credit(
    world: World, fake: FakeOllama
) -> None:
    key = await world.create_key(credits=5)
    url, headers = f"{world.url}/v1/chat/completions", bearer(key)
    (await world.http.post(url, headers=headers, json=chat())).raise_for_status()  # a load would go on for others
    fake.behaviour = Behaviour(hang=True)
    for streamed in (True, False):
        call = asyncio.create_task(world.http.post(url, headers=headers, json=chat(stream=streamed)))
        await fake.ledger.until(lambda ledger: ledger.open == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await fake.ledger.until_idle(UPSTREAM_CLOSED_S)
    _, *rows = await world.rows(3)
    assert {row["status"] for row in rows} == {"client_gone"}
    assert all(row["completion_tokens"] == 0 and row["prompt_tokens"] > 0 for row in rows)
    assert (await world.usage(key))["credits"] == credits_left(4, of=5)


async def test_two_hundred_clients_that_leave_at_random_leave_nothing_behind(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(rate_limit_per_min=LEAVERS, concurrency=LEAVERS, monthly_token_limit=10**9)
    fake.behaviour = UNHURRIED
    requests = {"/v1/chat/completions": chat(stream=True), "/v1/generate": {"prompt": "hi", "stream": True}}
    paths = [random.choice(list(requests)) for _ in range(LEAVERS)]
    left = await asyncio.gather(
        *(leave_after(world, key, path, requests[path], random.randint(1, 12)) for path in paths)
    )
    await fake.ledger.until_idle()

    rows = {str(row["id"]): row for row in await world.rows(LEAVERS)}
    assert set(rows) == {call_id for call_id, _, _ in left}
    assert all(seen <= rows[call_id]["completion_tokens"] for call_id, seen, _ in left)
    sent = sum(exchange.tokens_sent for exchange in fake.ledger.inference)
    assert sent - LEAVERS <= sum(row["completion_tokens"] for row in rows.values()) <= sent
    assert (await world.usage(key))["monthly_tokens"] == {
        "month": (await world.usage(key))["monthly_tokens"]["month"],
        "limit": 10**9,
        "spent": sum(row["total_tokens"] for row in rows.values()),
        "held": 0,
    }
    assert await world.leases() == 0
    await fake.ledger.until(lambda ledger: not any(_holds_a_socket(one) for one in ledger.inference))
    assert "gateway_running_calls 0.0" in (await world.http.get(f"{world.url}/metrics")).text


def _holds_a_socket(exchange: Exchange) -> bool:
    return exchange.open
