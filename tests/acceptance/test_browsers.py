"""Pages of other origins: those in CORS_ORIGINS may call and may read the limits; others may not."""

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import bearer, chat

MINE, OTHER = "https://chat.example.org", "https://evil.example.org"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang,x-max-wait-ms",
}


async def test_listed_origins_may_call_and_read_limits_and_others_may_not(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], CORS_ORIGINS=MINE) as world:
        url = f"{world.url}/v1/chat/completions"
        asked = await world.http.options(url, headers={"Origin": MINE, **PREFLIGHT})
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == MINE
        assert "x-max-wait-ms" in asked.headers["access-control-allow-headers"].lower()
        refused = await world.http.options(url, headers={"Origin": OTHER, **PREFLIGHT})
        assert refused.headers.get("access-control-allow-origin") != OTHER

        key = await world.create_key()
        reply = await world.http.post(url, headers=bearer(key) | {"Origin": MINE}, json=chat(stream=True))
        assert reply.headers["access-control-allow-origin"] == MINE
        assert "x-queue-position" in reply.headers["access-control-expose-headers"].lower()
        assert "x-ratelimit-remaining-requests" in reply.headers["access-control-expose-headers"].lower()
        reply = await world.http.post(url, headers=bearer("nonsense") | {"Origin": MINE}, json=chat())
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (401, MINE)
        await world.rows(1)


async def test_the_documentation_pages_work_without_any_other_host(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], workers=1) as world:
        for page in ("/docs", "/redoc"):
            reply = await world.http.get(world.url + page)
            assert reply.status_code == 200
            assert "://" not in reply.text
            assert "default-src 'none'" in reply.headers["content-security-policy"]
            for asset in [part.split('"')[0] for part in reply.text.split('"/')[1:]]:
                found = await world.http.get(f"{world.url}/{asset}")
                assert (found.status_code, len(found.content) > 50) == (200, True), asset
        document = (await world.http.get(f"{world.url}/openapi.json")).json()
        assert document["openapi"].startswith("3.")
