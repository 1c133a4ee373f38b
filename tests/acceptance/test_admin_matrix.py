"""Every route of the admin API, for everybody, by every spelling of its path: only the admin secret opens it.

The routes come from the route table. Whoever adds one has to say here what it answers.
"""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from msgspec import Struct

from gateway.app import Replica
from gateway.dev.fake_ollama import FakeOllama
from gateway.settings import Settings
from tests.acceptance.conftest import Start
from tests.acceptance.raw_requests import Raw
from tests.world import ADMIN_SECRET, World, bearer
from tests.world import _free_port as free_port

PREVIOUS = "the admin secret of last month"
CLOSED = {400, 401, 404, 405, 429}
PULL = "POST /v1/models/pull"


class Entry(Struct, frozen=True):
    """What a route answers those who may ask. `{key}` and `{team}` stand for what is there."""

    status: int
    body: dict[str, Any] | None = None


EXPECTED: dict[str, Entry] = {
    "POST /admin/api-keys": Entry(201, {"label": "x"}),
    "GET /admin/api-keys": Entry(200),
    "GET /admin/api-keys/{key_id}": Entry(200),
    "PATCH /admin/api-keys/{key_id}": Entry(200, {"label": "y"}),
    "DELETE /admin/api-keys/{key_id}": Entry(200),
    "POST /admin/api-keys/{key_id}/rotate": Entry(201, {}),
    "GET /admin/api-keys/{key_id}/usage": Entry(200),
    "POST /admin/teams": Entry(201, {"label": "x"}),
    "GET /admin/teams": Entry(200),
    "GET /admin/teams/{team_id}": Entry(200),
    "PATCH /admin/teams/{team_id}": Entry(200, {"label": "y"}),
    "DELETE /admin/teams/{team_id}": Entry(200),
    "GET /admin/teams/{team_id}/usage": Entry(200),
    "POST /admin/tiers": Entry(201, {"name": "another"}),
    "GET /admin/tiers": Entry(200),
    "GET /admin/tiers/{name}": Entry(200),
    "PATCH /admin/tiers/{name}": Entry(200, {"multiplier": 3}),
    "DELETE /admin/tiers/{name}": Entry(200),
    "POST /admin/prices": Entry(201, {"model": "another", "per_request": 1}),
    "GET /admin/prices": Entry(200),
    "DELETE /admin/prices/{price_id}": Entry(200),
    "POST /admin/credits": Entry(201, {"id": "x", "key_id": "{key}", "credits": 1}),
    "GET /admin/credits": Entry(200),
    "GET /admin/reconcile": Entry(200),
    "POST /admin/backends": Entry(201, {"name": "another", "url": "http://127.0.0.1:9/x"}),
    "GET /admin/backends": Entry(200),
    "GET /admin/backends/{name}": Entry(200),
    "PATCH /admin/backends/{name}": Entry(200, {"draining": True}),
    "DELETE /admin/backends/{name}": Entry(200),
    "POST /admin/aliases": Entry(201, {"name": "another", "targets": ["llama3.2:3b"]}),
    "GET /admin/aliases": Entry(200),
    "GET /admin/aliases/{name}": Entry(200),
    "PATCH /admin/aliases/{name}": Entry(200, {"context_tokens": 4096}),
    "DELETE /admin/aliases/{name}": Entry(200),
    "POST /admin/limits/dry-run": Entry(200, {"key_id": "{key}", "model": "llama3.2:3b", "prompt_tokens": 1}),
    "POST /admin/explain": Entry(
        200, {"key_id": "{key}", "body": {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "x"}]}}
    ),
    "GET /admin/usage": Entry(200),
    "GET /admin/usage/dead": Entry(200),
    "POST /admin/usage/replay": Entry(200, {"all": True}),
    "GET /admin/audit": Entry(200),
    PULL: Entry(200, {"model": "tinyllama", "stream": False}),
}

Trick = Callable[[str, str], str]
"""another spelling of a path; the second argument is the host"""
TRICKS: dict[str, Trick] = {
    "plain": lambda path, host: path,
    "two slashes before": lambda path, host: f"/{path}",
    "two slashes within": lambda path, host: path.replace("/", "//"),
    "slash behind": lambda path, host: f"{path}/",
    "slashes behind": lambda path, host: f"{path}///",
    "encoded slash": lambda path, host: path[0] + path[1:].replace("/", "%2f"),
    "encoded slash, large": lambda path, host: path[0] + path[1:].replace("/", "%2F", 1),
    "encoded twice": lambda path, host: path[0] + path[1:].replace("/", "%252f"),
    "encoded letter": lambda path, host: f"/%{ord(path[1]):02x}{path[2:]}",
    "upper case": lambda path, host: path.upper(),
    "one upper letter": lambda path, host: path[0] + path[1].upper() + path[2:],
    "dot behind": lambda path, host: f"{path}.",
    "encoded dot behind": lambda path, host: f"{path}%2e",
    "dot before": lambda path, host: f"/.{path}",
    "encoded dot before": lambda path, host: f"/%2e{path}",
    "up and down": lambda path, host: f"/v1/..{path}",
    "up and down, encoded": lambda path, host: f"/health/%2e%2e{path}",
    "up and down again": lambda path, host: f"{path}/../{path.rpartition('/')[2]}",
    "parameter within": lambda path, host: re.sub(r"^/(\w+)", r"/\1;x", path),
    "parameter behind": lambda path, host: f"{path};x=1",
    "backslash": lambda path, host: "/" + path[1:].replace("/", "\\", 1),
    "encoded space": lambda path, host: f"{path}%20",
    "encoded nothing": lambda path, host: f"{path}%00",
    "line break": lambda path, host: f"{path}%0d%0aX-Admin-Secret:%20x",
    "query": lambda path, host: f"{path}?",
    "absolute": lambda path, host: f"http://{host}{path}",
    "absolute, elsewhere": lambda path, host: f"http://elsewhere.example{path}",
    "another method's name": lambda path, host: f"{path}?_method=GET",
}


def routes() -> set[str]:
    """`METHOD /path` of every route that is an operator's."""
    found = set()
    for route in Replica(Settings()).app.routes:
        path = re.sub(r":\w+}", "}", getattr(route, "path_format", route.path))
        methods = set(getattr(route, "methods", ())) - {"OPTIONS", "HEAD"}
        found |= {f"{method} {path}" for method in methods if f"{path}/".startswith("/admin/")}
    return found | {PULL}


def test_every_route_of_operators_has_an_entry() -> None:
    assert routes() == set(EXPECTED)


class Things:
    """One of everything, and the routes' paths and bodies about it."""

    def __init__(self, **ids: str) -> None:
        self._ids = ids

    def path(self, route: str) -> str:
        names = {"key_id": "key", "team_id": "team", "name": route.split("/")[2], "price_id": "price"}
        return re.sub(r"{(\w+)}", lambda found: self._ids[names[found[1]]], route.partition(" ")[2])

    def body(self, entry: Entry) -> bytes:
        if entry.body is None:
            return b""
        return re.sub(r"{(key|team)}", lambda found: self._ids[found[1]], json.dumps(entry.body)).encode()


async def things(world: World, number: int, url: str = "") -> Things:
    async def made(path: str, **body: Any) -> dict[str, Any]:
        headers = {"X-Admin-Secret": ADMIN_SECRET}
        reply = await world.http.post(f"{url or world.url}/admin/{path}", headers=headers, json=body)
        reply.raise_for_status()
        return dict(reply.json())

    key, team = await made("api-keys", label="x"), await made("teams", label="x")
    tier = await made("tiers", name=f"tier-{number}")
    price = await made("prices", model=f"m{number}", valid_from="2999-01-01T00:00:00Z", per_request=1)
    backend = await made("backends", name=f"node-{number}", url=f"http://127.0.0.1:9/{number}")
    alias = await made("aliases", name=f"alias-{number}", targets=["llama3.2:3b"])
    ids = {"key": key["id"], "team": team["id"], "price": str(price["id"])}
    return Things(**ids, tiers=tier["name"], backends=backend["name"], aliases=alias["name"])


async def everything(world: World) -> list[Any]:
    """All that the admin API could change."""
    connection = await asyncpg.connect(world.database_url)
    try:
        tables = ("api_keys", "api_key_secrets", "teams", "tiers", "prices", "credit_grants", "audit_log", "backends")
        tables += ("model_aliases",)
        return [await connection.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]
    finally:
        await connection.close()


@pytest.mark.timeout(300)
async def test_no_spelling_of_a_path_opens_it_to_anybody_else(world: World, fake: FakeOllama) -> None:
    key = await world.create_key()
    there = await things(world, 0)
    before = await everything(world)
    roles: dict[str, dict[str, str]] = {
        "nobody": {},
        "a wrong secret": {"X-Admin-Secret": ADMIN_SECRET + "x"},
        "a part of it": {"X-Admin-Secret": ADMIN_SECRET[:-1]},
        "another case": {"X-Admin-Secret": ADMIN_SECRET.upper()},
        "a key as the secret": {"X-Admin-Secret": key},
        "a key": bearer(key),
        "the secret as a key": bearer(ADMIN_SECRET),
        "the secret elsewhere": {"X-Api-Key": ADMIN_SECRET, "Cookie": f"X-Admin-Secret={ADMIN_SECRET}"},
    }

    async def try_role(role: str) -> int:
        raw, count = Raw(world.url), 0
        for route, entry in EXPECTED.items():
            allowed = CLOSED | ({403} if route == PULL else set())  # a key has to have the scope
            for trick, spelling in TRICKS.items():
                target, method = spelling(there.path(route), raw.host), route.partition(" ")[0]
                headers = {"Content-Type": "application/json", **roles[role]}
                status, body = await raw.send(method, target, headers, there.body(entry))
                assert status in allowed, (role, route, trick, status, body[:200])
                count += 1
        raw.close()
        return count

    counts = await asyncio.gather(*map(try_role, roles))
    assert await everything(world) == before
    assert not [one for one in fake.ledger.exchanges if one.path == "/api/pull"]
    print(f"{sum(counts)} requests, none of them let in")


async def test_both_secrets_open_every_route(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], ADMIN_SECRET_PREVIOUS=PREVIOUS) as world:
        raw = Raw(world.url)
        for number, (route, entry) in enumerate(EXPECTED.items()):
            for secret in (ADMIN_SECRET, PREVIOUS):
                there = await things(world, 2 * number + (secret == PREVIOUS))
                body = there.body(entry)
                if secret == PREVIOUS:
                    body = (
                        body.replace(b'"another"', b'"one-more"')
                        .replace(b'"id": "x"', b'"id": "y"')
                        .replace(b":9/x", b":9/y")
                    )
                headers = {"Content-Type": "application/json", "X-Admin-Secret": secret}
                status, answer = await raw.send(route.partition(" ")[0], there.path(route), headers, body)
                assert status == entry.status, (route, secret == PREVIOUS, answer)
        raw.close()


async def test_options_and_other_methods_tell_nobody_anything(world: World) -> None:
    there = await things(world, 0)
    raw = Raw(world.url)
    for route in EXPECTED:
        for method in ("OPTIONS", "HEAD", "PUT", "TRACE", "GET", "POST", "PATCH", "DELETE"):
            if f"{method} {route.partition(' ')[2]}" in (*EXPECTED, "GET /v1/models/pull", f"OPTIONS {PULL[5:]}"):
                continue
            if method == "HEAD":  # an answer without a body, which `Raw` does not read
                reply = await world.http.head(world.url + there.path(route))
                assert reply.status_code in CLOSED
                continue
            status, _ = await raw.send(method, there.path(route), {})
            assert status in CLOSED, (method, route)
    raw.close()


@pytest.mark.timeout(180)
async def test_with_a_port_of_its_own_the_admin_api_is_nowhere_else(start: Start, fake: FakeOllama) -> None:
    port = free_port()
    async with start([fake.url], ADMIN_PORT=str(port)) as world:
        url = f"http://127.0.0.1:{port}"
        there = await things(world, 0, url)
        before = await everything(world)
        secret = {"X-Admin-Secret": ADMIN_SECRET, "Content-Type": "application/json"}
        public, private = Raw(world.url), Raw(url)
        for route, entry in EXPECTED.items():
            method = route.partition(" ")[0]
            for trick, spelling in TRICKS.items():
                target = spelling(there.path(route), public.host)
                status, body = await public.send(method, target, secret, there.body(entry))
                assert status == 404 or (status in (400, 405) and trick != "plain"), (route, trick, status, body[:200])
            for method in ("OPTIONS", "PUT"):
                status, _ = await public.send(method, there.path(route), secret)
                assert status == 404 or route == PULL
        assert (await public.send("GET", "/admin/api-keys", {}))[0] == 404
        assert await everything(world) == before
        assert (await private.send("GET", "/admin/api-keys", secret))[0] == 200
        assert (await private.send("GET", "/admin/api-keys", {}))[0] == 401
        assert (await public.send("GET", "/health", {}))[0] == 200


async def test_guessing_is_limited_by_address_on_all_replicas_alike(start: Start, fake: FakeOllama) -> None:
    settings = {"ADMIN_FAILURES_PER_MIN": "5", "TRUSTED_PROXIES": "127.0.0.1/32"}
    async with start([fake.url], replicas=2, **settings) as world:
        urls = [f"{url}/admin/tiers" for _, url in world.replicas]

        async def ask(url: str, secret: str | None, forwarded: str) -> Any:
            headers = {"X-Forwarded-For": forwarded} | ({} if secret is None else {"X-Admin-Secret": secret})
            return await world.http.get(url, headers=headers)

        for _ in range(20):  # who sends no secret does not guess
            assert (await ask(urls[0], None, "203.0.113.7")).status_code == 401
        for number in range(5):
            reply = await ask(urls[number % 2], f"guess {number}", f"198.51.100.{number}, 203.0.113.7")
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_admin_secret")
        for url in urls:
            for secret in ("one more guess", ADMIN_SECRET):
                reply = await ask(url, secret, "198.51.100.99, 203.0.113.7")
                assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
                assert 0 < int(reply.headers["retry-after"]) <= 60
        for address in ("203.0.113.8", "203.0.113.7, 203.0.113.9", "2001:db8::7"):
            assert (await ask(urls[0], ADMIN_SECRET, address)).status_code == 200
