"""ADMIN_PORT: the admin API on a port of its own, on that one alone; both ports begin and end together."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.raw_requests import Raw
from tests.world import ADMIN_SECRET, World, bearer, chat

SECRET = {"X-Admin-Secret": ADMIN_SECRET}
END_S = 30.0


@pytest.fixture
def admin_port() -> Iterator[int]:
    """A port that nobody else is given meanwhile, for it is bound, and can be bound once more."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_the_admin_api_is_there_and_not_on_the_public_port(
    start: Start, fake: FakeOllama, admin_port: int
) -> None:
    admin = f"http://127.0.0.1:{admin_port}"
    async with start([fake.url], ADMIN_PORT=str(admin_port)) as world:
        created = await world.http.post(f"{admin}/admin/api-keys", json={"label": "x"}, headers=SECRET)
        key = created.json()["key"]
        assert (await world.http.get(f"{admin}/admin/api-keys")).status_code == 401
        routes = [("GET", "/admin/api-keys"), ("POST", "/admin/api-keys"), ("GET", "/admin/audit"), ("GET", "/admin")]
        for method, path in [*routes, ("GET", "/admin/no-such-thing")]:
            for headers in (SECRET, {}, bearer(key)):
                hidden = await world.http.request(method, world.url + path, headers=headers, json={})
                assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "route_not_found"), path
        pull = await world.http.post(f"{world.url}/v1/models/pull", headers=SECRET, json={"model": "m"})
        assert pull.status_code == 404
        answer = await world.http.post(f"{world.url}/v1/chat/completions", json=chat(), headers=bearer(key))
        assert answer.status_code == 200


OPERATORS_ALONE = ["/metrics", "/admin/api-keys", "/admin/audit", "/admin"]
PUBLIC_ALONE = ["/docs", "/redoc", "/openapi.json", "/v1/models", "/v1/models/pull", "/v1/usage", "/api/tags"]
TRICKS = [
    "{}",
    "/{}",
    "{}/",
    "//{}//",
    "{}?x=1",
    "{percent}",
    "http://anywhere{}",
    "{}%2f",
    "{}//",
    "{upper}",
    "/x/..{}",
]
"""other spellings of a path; with some of them there is no such route anywhere"""


def spelled(trick: str, path: str) -> str:
    return trick.format(path, percent=f"/%{ord(path[1]):02x}{path[2:]}", upper=path.upper())


async def test_no_spelling_of_a_path_leads_to_the_other_ports_routes(
    start: Start, fake: FakeOllama, admin_port: int
) -> None:
    async with start([fake.url], ADMIN_PORT=str(admin_port)) as world:
        public, operators = Raw(world.url), Raw(f"http://127.0.0.1:{admin_port}")
        for path in OPERATORS_ALONE:
            for target in (spelled(trick, path) for trick in TRICKS):
                for method in ("GET", "POST", "OPTIONS"):
                    status, body = await public.send(method, target, SECRET)
                    assert (status, b"gateway_calls" in body) == (404, False), (method, target)
        for path in ("/metrics", "/admin/api-keys"):
            for trick in ("{}", "/{}", "{}/", "{percent}", "{}?limit=1" if path != "/metrics" else "{}?x=1"):
                assert (await operators.send("GET", spelled(trick, path), SECRET))[0] == 200, (path, trick)
        for path in PUBLIC_ALONE:
            for target in (spelled(trick, path) for trick in TRICKS):
                status, _ = await operators.send("GET", target, SECRET)
                assert status == 404, target
        for method, path in (
            ("GET", "/"),
            ("POST", "/v1/chat/completions"),
            ("POST", "/api/chat"),
            ("DELETE", "/ready"),
        ):
            assert (await operators.send(method, path, SECRET))[0] == 404, path
        for path in ("/health", "/ready"):
            for port in (public, operators):
                assert (await port.send("GET", path, {}))[0] == 200
        status, said = await operators.send("POST", "/v1/models/pull", SECRET, b"{}")
        assert (status, b"model" in said) == (400, True), "operators pull here"


async def test_sigterm_lets_running_calls_end_and_ends_both(start: Start, fake: FakeOllama, admin_port: int) -> None:
    admin = f"http://127.0.0.1:{admin_port}"
    async with start([fake.url], ADMIN_PORT=str(admin_port)) as world:
        made = await world.http.post(f"{admin}/admin/api-keys", json={"label": "x"}, headers=SECRET)
        replica, url = world.replicas[0]
        fake.behaviour = Behaviour(tokens=60, tokens_per_s=30)
        begun = asyncio.Event()
        client = asyncio.create_task(_last_line(world, bearer(made.json()["key"]), begun))
        await begun.wait()
        stopping = asyncio.create_task(replica.stop())
        async with asyncio.timeout(END_S):
            while await _listens(world, admin):
                await asyncio.sleep(0.02)
        assert await client == "data: [DONE]"
        assert await stopping == 0
        assert not await _listens(world, url)


async def _last_line(world: World, headers: dict[str, str], begun: asyncio.Event) -> str:
    last = ""
    url = f"{world.url}/v1/chat/completions"
    async with world.http.stream("POST", url, headers=headers, json=chat(stream=True)) as reply:
        async for line in reply.aiter_lines():
            begun.set()
            last = line or last
    return last


async def _listens(world: World, url: str) -> bool:
    try:
        await world.http.get(f"{url}/health", headers={"Connection": "close"})
    except httpx.ConnectError:
        return False
    except httpx.TransportError:  # it is about to end
        return True
    return True


@pytest.mark.parametrize("setting", ["PORT", "ADMIN_PORT"])
async def test_a_port_that_is_taken_stops_the_start_with_one_line(
    redis_url: str, database_url: str, short_dir: Path, fake: FakeOllama, setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world = World(redis_url, database_url, [fake.url], short_dir)
        child = world._spawn("replica", "serve", {"PORT": "0", setting: str(port)})
        assert await child.exited(END_S)
        await world.stop()
    said = world.log("replica")
    assert child.returncode == 1
    where = f"HOST 127.0.0.1, {setting} {port}"
    assert said == f"llm-gateway serve: cannot listen on {where} (Address already in use): set another {setting}\n"
