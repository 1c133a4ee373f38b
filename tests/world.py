"""A whole system for a test: replicas and workers as real processes, on the servers that the fixtures lend."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import redis.asyncio
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from gateway.dev.process import Child
from gateway.state import keyspace
from gateway.state.slots import is_cluster, node_urls
from tests.zygote import ForkedChild
from workers.migrate import migrate

ADMIN_SECRET = "an admin secret for tests only"
READY_S = 30.0
ROWS_S = 30.0
POLL_S = 0.02


class World:
    """What a test may do to the system. Everything goes through HTTP, SQL and Redis, as for users."""

    def __init__(self, redis_url: str, database_url: str, ollama_urls: list[str], directory: Path, **env: str) -> None:
        self.redis_url = redis_url
        self.database_url = database_url
        self._directory = directory
        self._env = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")},
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "OLLAMA_BASE_URL": ",".join(ollama_urls),
            "ADMIN_SECRET": ADMIN_SECRET,
            "ADMIN_FAILURES_PER_MIN": "1000000",  # every test comes from one address
            "KEY_FAILURES_PER_MIN": "1000000",
            "OLLAMA_SLOTS": "256",  # nobody waits where a test is not about that
            "DATA_DIR": str(directory),
            **env,
        }
        self.replicas: list[tuple[Child, str]] = []
        self.workers: list[Child] = []
        self.shards = int(self._env.get("SHARDS", "1"))
        self.redis: Any = _client(redis_url)
        self.http = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None), verify=_trust())

    @property
    def url(self) -> str:
        """Of the first replica."""
        return self.replicas[0][1]

    async def add_replica(self, **env: str) -> str:
        """Start a replica, with settings of its own. Its URL."""
        port = _free_port()
        child = self._spawn(f"replica-{len(self.replicas)}", "serve", {"PORT": str(port), **env})
        url = f"http://127.0.0.1:{port}"
        self.replicas.append((child, url))
        return url

    def add_worker(self, **env: str) -> Child:
        worker = self._spawn(f"worker-{len(self.workers)}", "worker", env)
        self.workers.append(worker)
        return worker

    async def ready(self) -> None:
        await asyncio.gather(*(self._ready(child, url) for child, url in self.replicas))

    async def create_key(self, **fields: Any) -> str:
        """A new key, as the admin API shows it once."""
        return str((await self.admin("POST", "/admin/api-keys", json={"label": "test", **fields})).json()["key"])

    async def admin(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        reply = await self.http.request(method, self.url + path, headers={"X-Admin-Secret": ADMIN_SECRET}, **kwargs)
        reply.raise_for_status()
        return reply

    def openai(self, key: str, url: str | None = None) -> AsyncOpenAI:
        """The real client, without retries of its own."""
        http = DefaultAsyncHttpxClient(verify=_trust())
        return AsyncOpenAI(api_key=key, base_url=f"{url or self.url}/v1", max_retries=0, http_client=http)

    async def usage(self, key: str) -> dict[str, Any]:
        reply = await self.http.get(f"{self.url}/v1/usage", headers=bearer(key))
        reply.raise_for_status()
        found: dict[str, Any] = reply.json()
        return found

    async def usage_told(self, key: str, within_s: float = ROWS_S) -> dict[str, Any]:
        """The same, once Postgres has answered in time."""
        async with asyncio.timeout(within_s):
            while (told := await self.usage(key))["by_day"] is None:
                await asyncio.sleep(POLL_S)
        return told

    async def rows(self, count: int, within_s: float = ROWS_S) -> list[dict[str, Any]]:
        """All usage rows, oldest first, once there are `count` of them and no event is left in the stream.

        Fails when there are more, or not as many in time.
        """
        connection = await asyncpg.connect(self.database_url)
        try:
            async with asyncio.timeout(within_s):
                while True:
                    rows = await connection.fetch("SELECT * FROM usage_logs ORDER BY created_at, id")
                    if len(rows) >= count and not await self._waiting():
                        break
                    await asyncio.sleep(POLL_S)
        finally:
            await connection.close()
        assert len(rows) == count
        return [dict(row) for row in rows]

    async def rows_when_settled(self, within_s: float = ROWS_S) -> list[dict[str, Any]]:
        """All usage rows, oldest first, once no call is open and no event is left: where nobody knows how many."""
        async with asyncio.timeout(within_s):
            while await self.leases():
                await asyncio.sleep(POLL_S)
            while await self._waiting():
                await asyncio.sleep(POLL_S)
        connection = await asyncpg.connect(self.database_url)
        try:
            return [dict(row) for row in await connection.fetch("SELECT * FROM usage_logs ORDER BY created_at, id")]
        finally:
            await connection.close()

    async def leases(self) -> int:
        """How many calls Redis takes for running."""
        return sum([await self.redis.zcard(keyspace.leases(shard)) for shard in range(self.shards)])

    async def _waiting(self) -> int:
        """Usage events that are no rows yet."""
        return sum([await self.redis.xlen(keyspace.usage(shard)) for shard in range(self.shards)])

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()

    def _spawn(self, name: str, command: str, env: dict[str, str]) -> Child:
        log = self._directory / f"{name}.log"
        child = ForkedChild(name, [command], log=log, env=self._env | env)
        child.spawn()
        return child

    async def _ready(self, child: Child, url: str) -> None:
        async with asyncio.timeout(READY_S):
            while True:
                assert child.running, f"{child.name} has ended:\n{child.tail()}"
                try:
                    if (await self.http.get(f"{url}/ready")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Kill all: how processes end by themselves is for tests about that, and takes as long as others take whole."""
        children = [child for child, _ in self.replicas] + self.workers
        await asyncio.gather(*(child.kill() for child in children))
        await self.http.aclose()
        await self.redis.aclose()


@asynccontextmanager
async def running(world: World, replicas: int = 1, workers: int = 1) -> AsyncIterator[World]:
    """The world with its processes up, and down again at the end."""
    await migrate(world.database_url)
    try:
        for _ in range(workers):
            world.add_worker()
        for _ in range(replicas):
            await world.add_replica()
        await world.ready()
        yield world
    finally:
        await world.stop()


@cache
def _trust() -> ssl.SSLContext:
    """Loaded once: each client of httpx would read all certificates anew, to be sent over plain HTTP."""
    return ssl.create_default_context()


def _client(url: str) -> Any:
    if is_cluster(url):
        return redis.asyncio.RedisCluster.from_url(node_urls(url)[0], decode_responses=True)
    return redis.asyncio.Redis.from_url(url, decode_responses=True)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def chat(content: str = "Why is the sky blue? One sentence.", **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "llama3.2:3b", "messages": [{"role": "user", "content": content}], **fields}


def credits_left(balance: int, *, of: int) -> dict[str, int]:
    """What GET /v1/usage says of credits when no call runs."""
    return {"balance": balance, "held": 0, "granted": of, "charged": of - balance}


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
