"""What an operator does: requests to the admin API, and what comes back."""

import asyncio
from typing import Any

import httpx

from gateway.state import keyspace
from tests.world import ADMIN_SECRET, World, bearer, chat

CHAT = "/v1/chat/completions"
SOON_S = 10.0
POLL_S = 0.02
OF_PROBES = ("registry", "nodes", "changes", "turns")
"""keys of the fleet that replicas write by themselves, when they look at its nodes"""


class Operator:
    """Asks the first replica. Paths are those behind /admin."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def ask(self, method: str, path: str, body: Any = None, **headers: str | bytes) -> httpx.Response:
        """The answer, whatever it is. Headers with `_` for `-`, in UTF-8."""
        named = {name.replace("_", "-"): _bytes(value) for name, value in headers.items()}
        sent = {} if body is None else {"json": body}
        url, secret = f"{self.world.url}/admin{path}", {"X-Admin-Secret": _bytes(ADMIN_SECRET)}
        return await self.world.http.request(method, url, headers=secret | named, **sent)

    async def get(self, path: str) -> dict[str, Any]:
        return _good(await self.ask("GET", path), 200)

    async def make(self, path: str, **body: Any) -> dict[str, Any]:
        return _good(await self.ask("POST", path, body), 201)

    async def change(self, path: str, **body: Any) -> dict[str, Any]:
        return _good(await self.ask("PATCH", path, body), 200)

    async def remove(self, path: str) -> dict[str, Any]:
        return _good(await self.ask("DELETE", path), 200)

    async def walk(self, path: str, limit: int, **query: Any) -> list[dict[str, Any]]:
        """Everything of a list, page by page."""
        found: list[dict[str, Any]] = []
        params = {**query, "limit": limit}
        while True:
            page = await self.get(f"{path}?{httpx.QueryParams(params)}")
            assert len(page["data"]) <= limit
            assert page["next"] is None or len(page["data"]) == limit
            found += page["data"]
            if page["next"] is None:
                return found
            params["after"] = page["next"]

    async def refused(self, status: int, code: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The error, which has to be this one."""
        reply = await self.ask(method, path, body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), (method, path, body, reply.text)
        return dict(reply.json()["error"])

    async def audit(self, **query: Any) -> list[dict[str, Any]]:
        return await self.walk("/audit", 500, **query)

    async def call(self, key: str, **fields: Any) -> httpx.Response:
        """A chat with the key."""
        return await self.world.http.post(self.world.url + CHAT, headers=bearer(key), json=chat(**fields))

    async def until(self, key: str, status: int) -> None:
        """Waits until calls of the key are answered so."""
        async with asyncio.timeout(SOON_S):
            while (await self.call(key)).status_code != status:
                await asyncio.sleep(POLL_S)


async def everything(world: World, *, fleet: bool = True) -> dict[str, Any]:
    """Every key of Redis and its bytes, but for what probes write; `fleet` False: but for all that is of the fleet.

    Of a stream its entries alone: what it keeps of its readers changes whenever a worker asks again.
    """
    others = [name for name in keyspace.fleet() if not fleet or name.endswith(OF_PROBES)]
    names = sorted(set(await world.redis.keys()) - set(others))
    return {name: await _contents(world, name) for name in names}


async def _contents(world: World, name: str) -> Any:
    if await world.redis.type(name) == "stream":
        return await world.redis.xrange(name)
    return await world.redis.execute_command("DUMP", name, NEVER_DECODE=True)


def _good(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, (reply.request.method, reply.url, reply.text)
    return dict(reply.json())


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
