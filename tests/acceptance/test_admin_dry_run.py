"""A dry run says what a real call then meets, and changes nothing at all."""

from typing import Any

import pytest

from gateway.core.limits import BYTES_PER_TOKEN_EXPECTED
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.operators import Operator, everything
from tests.world import World

TEXT = "Why is the sky blue? One sentence."
MODEL = "llama3.2:3b"


@pytest.fixture
async def operator(world: World) -> Operator:
    return await alone(world)


async def alone(world: World) -> Operator:
    """Nobody else changes anything: the worker has done its part."""
    for worker in world.workers:
        await worker.stop()
    return Operator(world)


async def dry(operator: Operator, key: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"key_id": key["id"], "model": MODEL, "prompt_bytes": len(TEXT), "max_tokens": 50} | more
    for bucket in await operator.world.redis.keys("*:buckets:*"):
        await operator.world.redis.persist(bucket)  # one that has filled up meanwhile would go by itself
    before = await everything(operator.world, fleet=False)
    reply = await operator.ask("POST", "/limits/dry-run", body)
    assert reply.status_code == 200, reply.text
    assert await everything(operator.world, fleet=False) == before, "it changed something"
    return dict(reply.json())


CASES: dict[str, tuple[dict[str, Any], int, str | None]] = {
    "all is well": ({}, 0, None),
    "requests": ({"rate_limit_per_min": 2}, 2, "rate_limit_exceeded"),
    "burst": ({"rate_limit_per_min": 60, "burst": 1}, 1, "rate_limit_exceeded"),
    "tokens": ({"tokens_per_min": 60}, 1, "rate_limit_exceeded"),
    "a model's requests": ({"model_limits": {"llama*": {"rate_limit_per_min": 1}}}, 1, "rate_limit_exceeded"),
    "another model's": ({"model_limits": {"qwen*": {"rate_limit_per_min": 1}}}, 1, None),
    "credits": ({"credits": 2}, 2, "insufficient_quota"),
    "a tier's price": ({"credits": 2, "tier": "basic"}, 1, "insufficient_quota"),
    "the month": ({"monthly_token_limit": 180}, 1, "insufficient_quota"),
    "too large for ever": ({"monthly_token_limit": 40}, 0, "cost_exceeds_limit"),
    "too large for a minute": ({"tokens_per_min": 5}, 0, "cost_exceeds_limit"),
    "shadow": ({"rate_limit_per_min": 1, "shadow": True}, 2, None),
    "model": ({"models": ["qwen*"]}, 0, "model_not_found"),
    "scope": ({"scopes": ["pull"]}, 0, "scope_missing"),
}


async def test_it_says_what_a_call_then_meets(operator: Operator) -> None:
    for case in CASES:
        print(case)
        await _meets(operator, case)


async def _meets(operator: Operator, case: str) -> None:
    limits, calls, code = CASES[case]
    key = await operator.make("/api-keys", **limits)
    for _ in range(calls):
        reply = await operator.call(key["key"], max_tokens=50)
        assert reply.status_code == 200, reply.text
    said = await dry(operator, key)
    real = await operator.call(key["key"], max_tokens=50)
    assert said["would_admit"] == (real.status_code == 200) == (code is None), (said, real.text)
    assert said["reason"] == code
    if code:
        error = real.json()["error"]
        assert (error["code"], error["message"]) == (said["reason"], said["message"])
        waits = int(real.headers["retry-after"]) if "retry-after" in real.headers else None
        assert waits == said["retry_after"] or (waits and said["retry_after"] - waits in (0, 1))
    elif case == "all is well":
        assert {one["limit"] for one in said["limits"]} == {"requests", "month"}
        (requests,) = [one for one in said["limits"] if one["limit"] == "requests"]
        assert requests == {
            "whose": "key", "limit": "requests", "of": 20, "before": 20, "needs": 1, "after": 19, "wait_seconds": 0,
        }  # fmt: skip


async def test_it_knows_teams_prices_caps_and_models(operator: Operator) -> None:
    team = await operator.make("/teams", rate_limit_per_min=1)
    key = await operator.make("/api-keys", team_id=team["id"])
    assert (await operator.call(key["key"])).status_code == 200
    said = await dry(operator, key)
    real = (await operator.call(key["key"])).json()["error"]
    assert (said["reason"], said["message"]) == ("rate_limit_exceeded", real["message"])
    assert {one["whose"] for one in said["limits"]} == {"key", "team"}

    await operator.make("/prices", model=MODEL, per_request=1, per_1k_completion_tokens=100)
    poor = await operator.make("/api-keys", credits=2)
    said = await dry(operator, poor, max_tokens=50)
    assert (said["would_admit"], said["max_tokens"], said["price"]) == (True, 10, 2)
    reply = await operator.call(poor["key"], max_tokens=50)
    assert reply.headers["x-gateway-max-tokens"] == "10"

    assert (await dry(operator, poor, model="not-there"))["reason"] == "model_not_found"
    assert (await dry(operator, key, prompt_bytes=None, prompt_tokens=10))["reason"] == "rate_limit_exceeded"
    await operator.remove(f"/api-keys/{poor['id']}")
    assert (await dry(operator, poor))["reason"] == "invalid_api_key"
    good = {"key_id": key["id"], "model": MODEL, "prompt_tokens": 1}
    for bad in ({"prompt_tokens": None}, {"prompt_bytes": 1}, {"model": "no name"}, {"max_tokens": 0}, {"key": "x"}):
        await operator.refused(400, "invalid_request", "POST", "/limits/dry-run", good | bad)
    await operator.refused(404, "key_not_found", "POST", "/limits/dry-run", good | {"key_id": "0000000000"})


async def test_a_prompt_of_so_many_tokens_is_reserved_as_a_real_one_is(operator: Operator) -> None:
    await operator.make("/prices", model=MODEL, per_1k_prompt_tokens=1, per_1k_completion_tokens=10)
    for tokens in (1, 100, 700):
        text = "x" * (tokens * BYTES_PER_TOKEN_EXPECTED)
        poor = await operator.make("/api-keys", credits=(len(text) + 300) / 1_000, rate_limit_per_min=None)
        said = await dry(operator, poor, prompt_bytes=None, prompt_tokens=tokens)
        assert said["would_admit"] and 1 <= said["max_tokens"] < 50
        reply = await operator.call(poor["key"], messages=[{"role": "user", "content": text}], max_tokens=50)
        assert reply.headers["x-gateway-max-tokens"] == str(said["max_tokens"])
        poorer = await operator.make("/api-keys", credits=len(text) / 1_000)
        said = await dry(operator, poorer, prompt_bytes=None, prompt_tokens=tokens)
        real = await operator.call(poorer["key"], messages=[{"role": "user", "content": text}], max_tokens=50)
        assert said["reason"] == real.json()["error"]["code"] == "insufficient_quota"


async def test_it_looks_at_networks_where_an_address_is_given(operator: Operator) -> None:
    key = await operator.make("/api-keys", networks=["10.0.0.0/8", "2001:db8::/32"])
    real = (await operator.call(key["key"])).json()["error"]
    for address in ("127.0.0.1", "::1", "11.0.0.0", "9.255.255.255", "2001:db9::"):
        said = await dry(operator, key, address=address)
        assert (said["would_admit"], said["reason"], said["message"]) == (False, real["code"], real["message"])
    for address in (None, "10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"):
        assert (await dry(operator, key, address=address))["would_admit"], address
    assert (await dry(operator, await operator.make("/api-keys"), address="192.0.2.1"))["would_admit"]
    body = {"key_id": key["id"], "model": MODEL, "prompt_tokens": 1}
    for bad in ("", "localhost", "10.0.0.0/8", "10.1.2.3:80"):
        error = await operator.refused(400, "invalid_request", "POST", "/limits/dry-run", body | {"address": bad})
        assert error["param"] == "address"


async def test_with_all_limits_in_shadow_it_lets_everything_in(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], SHADOW_LIMITS="true") as world:
        operator = await alone(world)
        key = await operator.make("/api-keys", rate_limit_per_min=1, models=["llama*"])
        for _ in range(2):
            assert (await operator.call(key["key"])).status_code == 200
            assert (await dry(operator, key))["would_admit"]
        assert (await dry(operator, key, model="qwen3:8b"))["reason"] == "model_not_found"
