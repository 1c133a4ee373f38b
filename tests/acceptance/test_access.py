"""Who may come in, from where, and to which models; and how often one may fail to say who one is."""

from gateway.core import keys
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import PATH
from tests.fakes import STRANGER
from tests.world import World, bearer, chat

FAILURES = 5
INSIDE = "10.1.2.3"
OUTSIDE = "203.0.113.9"


async def _status(world: World, key: str, forwarded: str | None = None, replica: int = 0) -> tuple[int, str]:
    """Status and error code of a call."""
    headers = bearer(key) | ({"X-Forwarded-For": forwarded} if forwarded else {})
    reply = await world.http.post(world.replicas[replica][1] + PATH, headers=headers, json=chat())
    return reply.status_code, "" if reply.status_code == 200 else str(reply.json()["error"]["code"])


async def test_a_key_of_some_networks_is_of_no_use_elsewhere(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(networks=["10.0.0.0/8"])
    assert await _status(world, key) == (403, "address_not_allowed")
    assert await _status(world, key, INSIDE) == (403, "address_not_allowed"), "anybody can send that header"
    usage = await world.http.get(f"{world.url}/v1/usage", headers=bearer(key))
    assert (usage.status_code, usage.json()["error"]["code"]) == (403, "address_not_allowed")
    home = await world.create_key(networks=["127.0.0.0/8", "::1/128"])
    assert await _status(world, home) == (200, "")
    assert len(fake.ledger.inference) == 1


async def test_only_a_trusted_proxy_is_believed_and_only_its_own_word(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], TRUSTED_PROXIES="127.0.0.1/32") as world:
        key = await world.create_key(networks=["10.0.0.0/8"])
        assert await _status(world, key, INSIDE) == (200, "")
        assert await _status(world, key, f"{OUTSIDE}, {INSIDE}") == (200, "")
        assert await _status(world, key, f"{INSIDE}, {OUTSIDE}") == (403, "address_not_allowed")
        assert await _status(world, key, f"{INSIDE}, {OUTSIDE}, 127.0.0.1") == (403, "address_not_allowed")
        assert await _status(world, key) == (403, "address_not_allowed")


async def test_models_that_a_key_may_not_use_are_not_there_for_it(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(models=["llama3.2:*"])
    assert await _status(world, key) == (200, "")
    for model in ("qwen3:8b", "no-such-model"):
        refused = await world.http.post(world.url + PATH, headers=bearer(key), json=chat(model=model))
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    listed = (await world.http.get(f"{world.url}/v1/models", headers=bearer(key))).json()["data"]
    assert [model["id"] for model in listed] == ["llama3.2:3b"]
    tags = (await world.http.get(f"{world.url}/api/tags", headers=bearer(key))).json()["models"]
    assert [model["name"] for model in tags] == ["llama3.2:3b"]
    free = await world.create_key()
    assert len((await world.http.get(f"{world.url}/v1/models", headers=bearer(free))).json()["data"]) > 1
    assert len(fake.ledger.inference) == 1


async def test_who_fails_too_often_to_have_a_key_has_to_wait_on_every_replica(start: Start, fake: FakeOllama) -> None:
    settings = {"KEY_FAILURES_PER_MIN": str(FAILURES), "TRUSTED_PROXIES": "127.0.0.1/32"}
    async with start([fake.url], replicas=2, **settings) as world:
        key = await world.create_key()
        answers = [await _status(world, STRANGER, OUTSIDE, number % 2) for number in range(FAILURES + 2)]
        assert [status for status, _ in answers] == [401] * FAILURES + [429] * 2
        assert answers[-1] == (429, "rate_limit_exceeded")
        assert await _status(world, keys.mint("llm", b"\7" * 32), OUTSIDE) == (429, "rate_limit_exceeded")
        assert await _status(world, STRANGER, INSIDE) == (401, "invalid_api_key"), "another address is heard"
        assert await _status(world, key, OUTSIDE) == (200, ""), "and so is who has a key"


async def test_what_is_no_key_at_all_is_counted_without_redis(start: Start, fake: FakeOllama) -> None:
    settings = {"KEY_FAILURES_PER_MIN": str(FAILURES), "TRUSTED_PROXIES": "127.0.0.1/32"}
    async with start([fake.url], **settings) as world:
        answers = [await _status(world, f"no-key-{number}", OUTSIDE) for number in range(FAILURES + 2)]
        assert [status for status, _ in answers] == [401] * FAILURES + [429] * 2
        assert not [name async for name in world.redis.scan_iter("*:failures:*")]
        assert await _status(world, "no-key", INSIDE) == (401, "invalid_api_key")
