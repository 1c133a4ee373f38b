"""Limits are exact over replicas: what two of them admit together is what one bucket holds."""

import asyncio
import time

import httpx

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.fakes import STRANGER
from tests.world import World, bearer, chat

LIMIT = 20
CALLS = 200
SECONDS_A_REQUEST = 60 / LIMIT


async def test_two_replicas_admit_exactly_the_limit_and_retry_after_is_honest(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        key = await world.create_key(rate_limit_per_min=LIMIT)
        began = time.monotonic()
        replies = await asyncio.gather(*(_ask(world, key, number % 2) for number in range(CALLS)))
        refilled = int((time.monotonic() - began) / SECONDS_A_REQUEST)
        admitted = [reply for reply in replies if reply.status_code == 200]
        refused = [reply for reply in replies if reply.status_code == 429]
        assert len(admitted) + len(refused) == CALLS
        assert LIMIT <= len(admitted) <= LIMIT + refilled

        for reply in refused:
            assert reply.json()["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(reply.headers["retry-after"]) <= SECONDS_A_REQUEST
            assert reply.headers["x-ratelimit-limit-requests"] == str(LIMIT)
            assert reply.headers["x-ratelimit-remaining-requests"] == "0"

        last = await _ask(world, key, 0)
        assert last.status_code == 429
        await asyncio.sleep(int(last.headers["retry-after"]))  # the only wait that can show that the promise holds
        assert (await _ask(world, key, 1)).status_code == 200
        assert (await _ask(world, key, 0)).status_code == 429
        assert len(await world.rows(len(admitted) + 1)) == len(fake.ledger.inference)


async def test_concurrency_counts_calls_of_both_replicas(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        key = await world.create_key(concurrency=3)
        fake.behaviour = Behaviour(first_byte_ms=3_000)
        calls = [asyncio.create_task(_ask(world, key, number % 2)) for number in range(10)]
        await fake.ledger.until(lambda ledger: ledger.open == 3)
        replies = await asyncio.gather(*calls)
        assert sorted(reply.status_code for reply in replies) == [200] * 3 + [429] * 7
        assert fake.ledger.peak == 3
        fake.behaviour = Behaviour()
        assert (await _ask(world, key, 0)).status_code == 200
        await world.rows(4)


async def test_credits_and_monthly_tokens_run_out_in_the_words_of_each_dialect(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(credits=1)
    assert (await _ask(world, key)).status_code == 200
    spent = await _ask(world, key)
    assert (spent.status_code, spent.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "retry-after" not in spent.headers
    for path in ("/generate", "/generate/llama3.2:3b", "/v1/generate"):
        plain = await world.http.post(world.url + path, headers=bearer(key), json={"prompt": "hi"})
        assert (plain.status_code, plain.json()["error"]) == (403, "Insufficient credits")

    month = await world.create_key(monthly_token_limit=400)
    fake.behaviour = Behaviour(tokens=350)
    assert (await _ask(world, month)).status_code == 200
    used_up = await _ask(world, month)  # the prompt alone may take more than is left
    assert (used_up.status_code, used_up.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "retry-after" not in used_up.headers
    assert len(fake.ledger.inference) == 2
    await world.rows(2)


async def test_a_cost_that_can_never_fit_is_told_so_and_not_to_wait(world: World, fake: FakeOllama) -> None:
    month, minute = await world.create_key(monthly_token_limit=40), await world.create_key(tokens_per_min=5)
    for key in (month, minute):
        refused = await _ask(world, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "cost_exceeds_limit")
        assert "retry-after" not in refused.headers
    assert fake.ledger.inference == []


async def test_tokens_that_are_only_held_are_not_called_used_up(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(monthly_token_limit=20_000)
    fake.behaviour = Behaviour(hang=True)
    calls = []
    for number in (1, 2):
        calls.append(asyncio.create_task(_ask(world, key)))
        await fake.ledger.until(lambda ledger, number=number: ledger.open == number)
    refused = await _ask(world, key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await world.rows(2)


async def test_the_output_is_capped_to_what_is_left_of_the_month(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(monthly_token_limit=1_000)
    fake.behaviour = Behaviour(tokens=5_000)
    reply = await _ask(world, key)
    assert reply.json()["choices"][0]["finish_reason"] == "length"
    (row,) = await world.rows(1)
    assert row["total_tokens"] <= 1_000
    assert fake.ledger.inference[0].body["options"]["num_predict"] == row["completion_tokens"] < 1_000


async def test_tokens_per_minute_is_one_bucket_for_both_replicas(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        key = await world.create_key(rate_limit_per_min=1_000, tokens_per_min=2_000)
        body = chat(max_tokens=400)  # expected: 12 prompt tokens and 400 of output
        fake.behaviour = Behaviour(tokens=400)
        replies = await asyncio.gather(*(_ask(world, key, number % 2, body) for number in range(12)))
        admitted = sum(reply.status_code == 200 for reply in replies)
        assert admitted == 4
        refused = next(reply for reply in replies if reply.status_code == 429)
        assert refused.headers["x-ratelimit-limit-tokens"] == "2000"
        too_large = await _ask(world, key, 0, chat("x" * 9_000))
        assert (too_large.status_code, too_large.json()["error"]["code"]) == (400, "cost_exceeds_limit")
        await world.rows(admitted)


async def test_a_refused_call_changes_nothing_in_redis(world: World) -> None:
    key = await world.create_key(rate_limit_per_min=1)
    assert (await _ask(world, key)).status_code == 200
    await world.rows(1)
    before = await _everything(world)
    for _ in range(20):
        assert (await _ask(world, key)).status_code == 429
    assert await _everything(world) == before


async def test_limits_of_models_are_limits_of_their_own(world: World) -> None:
    key = await world.create_key(rate_limit_per_min=20, model_limits={"llama3*": {"rate_limit_per_min": 2}})
    llama = [(await _ask(world, key)).status_code for _ in range(4)]
    other = [(await _ask(world, key, body=chat(model="qwen3:8b"))).status_code for _ in range(4)]
    assert (llama, other) == ([200, 200, 429, 429], [200] * 4)
    refused = await _ask(world, key)
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert (await world.usage(key))["requests_per_min"]["limit"] == 20
    await world.rows(6)


async def test_a_burst_is_how_many_may_come_at_once(world: World) -> None:
    key = await world.create_key(rate_limit_per_min=20, burst=3)
    replies = await asyncio.gather(*(_ask(world, key) for _ in range(12)))
    assert 3 <= sum(reply.status_code == 200 for reply in replies) <= 4  # the fourth comes in 3 s
    assert {reply.status_code for reply in replies} == {200, 429}


async def test_headers_and_the_usage_route_tell_the_same_numbers(world: World) -> None:
    key = await world.create_key(rate_limit_per_min=20, tokens_per_min=60_000)
    reply = await _ask(world, key)
    told, usage = reply.headers, await world.usage(key)
    assert told["x-ratelimit-limit-requests"] == str(usage["requests_per_min"]["limit"]) == "20"
    assert told["x-ratelimit-remaining-requests"] == str(usage["requests_per_min"]["left"]) == "19"
    assert told["x-ratelimit-limit-tokens"] == str(usage["tokens_per_min"]["limit"]) == "60000"
    assert 0 < float(told["x-ratelimit-reset-requests"].removesuffix("s")) <= SECONDS_A_REQUEST
    assert told["ratelimit-policy"] == '"requests";q=20;w=60, "tokens";q=60000;w=60'
    assert told["ratelimit"].startswith('"requests";r=19;t=3, "tokens";r=')
    assert "x-gateway-max-tokens" not in told
    refused = [await _ask(world, key) for _ in range(20)][-1]
    assert refused.status_code == 429
    assert '"requests";r=0;' in refused.headers["ratelimit"]
    assert refused.headers["ratelimit-policy"] == told["ratelimit-policy"]


async def test_in_shadow_limits_are_counted_and_refuse_nobody(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], SHADOW_LIMITS="true") as world:
        key = await world.create_key(rate_limit_per_min=1, concurrency=1)
        assert [(await _ask(world, key)).status_code for _ in range(5)] == [200] * 5
        assert (await world.usage(key))["would_refuse"] == {"requests": 4}
        stranger = await _ask(world, STRANGER)
        assert stranger.status_code == 401, "who is unknown is refused all the same"
        await world.rows(5)


async def test_one_key_may_be_in_shadow_and_others_not(world: World) -> None:
    shadowed, plain = await world.create_key(rate_limit_per_min=1, shadow=True), await world.create_key(burst=1)
    for _ in range(3):
        assert (await _ask(world, shadowed)).status_code == 200
    assert [(await _ask(world, plain)).status_code for _ in range(2)] == [200, 429]
    assert (await world.usage(shadowed))["would_refuse"] == {"requests": 2}
    assert (await world.usage(plain))["would_refuse"] == {}
    await world.rows(4)


async def _everything(world: World) -> dict[str, bytes | None]:
    return {name: await world.redis.dump(name) async for name in world.redis.scan_iter("{s00}:[akrlt]*")}


async def _ask(world: World, key: str, replica: int = 0, body: dict[str, object] | None = None) -> httpx.Response:
    url = world.replicas[replica][1]
    return await world.http.post(f"{url}/v1/chat/completions", headers=bearer(key), json=body or chat())
