"""The gateway as it runs in production: real processes with real stores, all limits set, usage, metrics, log lines."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import httpx

from gateway.dev.places import free_port
from gateway.dev.process import Child
from tests.bench.load import Address
from tests.bench.stats import get

ADMIN_SECRET = "an admin secret for benchmarks only"
PEPPER = "a pepper of benchmarks and of nothing else"
READY_S = 30.0
QUIET_S = 60.0
POLL_S = 0.02
_NAME = re.compile(r"[{ ]")
SLOTS = 1_024
"""of a node: as many as one may have, so that calls do not wait for each other"""
MANY = 10**7
PRICE = {"model": "*", "per_request": 0.001, "per_1k_prompt_tokens": 0.002, "per_1k_completion_tokens": 0.004}
LIMITS: dict[str, Any] = {
    "rate_limit_per_min": MANY, "burst": MANY, "tokens_per_min": 10**8, "concurrency": 10_000,
    "monthly_token_limit": 10**12, "credits": 10**9,
}  # fmt: skip
"""every kind of limit, none of which is ever reached"""


class Stores:
    """Where replicas and workers of one system find Redis, Postgres and their nodes."""

    def __init__(self, redis_url: str, database_url: str, nodes: list[Address]) -> None:
        self._env = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")},
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "OLLAMA_BASE_URL": ",".join(f"http://{host}:{port}" for host, port in nodes),
            "OLLAMA_SLOTS": str(SLOTS),
            "ADMIN_SECRET": ADMIN_SECRET,
            "KEY_PEPPER": PEPPER,
        }

    def env(self, **more: str) -> dict[str, str]:
        return self._env | more


class Replica:
    """`llm-gateway serve` in a process of its own."""

    def __init__(self, name: str, stores: Stores, directory: Path, **more: str) -> None:
        self.address: Address = ("127.0.0.1", free_port("127.0.0.1", 0))
        env = stores.env(PORT=str(self.address[1]), DATA_DIR=str(directory), **more)
        self.child = Child(name, [sys.executable, "-m", "gateway", "serve"], log=directory / f"{name}.log", env=env)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def ready(self) -> None:
        """Wait until it serves."""
        async with httpx.AsyncClient() as http, asyncio.timeout(READY_S):
            while not await _is_ready(http, self.url):
                if not self.child.running:
                    raise self.child.failure("ended while it started")
                await asyncio.sleep(POLL_S)

    async def admin(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=READY_S) as http:
            secret = {"X-Admin-Secret": ADMIN_SECRET}
            reply = await http.request(method, f"{self.url}/admin{path}", headers=secret, json=fields or None)
        reply.raise_for_status()
        made: dict[str, Any] = reply.json()
        return made

    async def add_node(self, url: str, slots: int = SLOTS) -> str:
        """A node beside those of the settings; its name. It serves when this returns."""
        name = str((await self.admin("POST", "/backends", url=url, slots=slots))["name"])
        async with asyncio.timeout(READY_S):
            while (now := await self.admin("GET", f"/backends/{name}"))["state"] != "up" or not now["models"]:
                await asyncio.sleep(POLL_S)
        return name

    async def remove_node(self, name: str) -> None:
        await self.admin("DELETE", f"/backends/{name}")

    async def create_key(self, **limits: Any) -> str:
        """A key whose limits are LIMITS, but for those given."""
        return str((await self.admin("POST", "/api-keys", label="bench", **LIMITS | limits))["key"])

    async def metric(self, *names: str) -> float:
        """The sum of all of these, with all their labels."""
        lines = (await get(self.address, "/metrics")).decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if _NAME.split(line, 1)[0] in names)

    async def quiet(self) -> None:
        """Wait until no call runs and all are settled."""
        async with asyncio.timeout(QUIET_S):
            while await self.metric("gateway_running_calls", "gateway_unsettled_calls"):
                await asyncio.sleep(POLL_S)


def worker(name: str, stores: Stores, directory: Path) -> Child:
    env = stores.env(DATA_DIR=str(directory))
    return Child(name, [sys.executable, "-m", "gateway", "worker"], log=directory / f"{name}.log", env=env)


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/ready")).status_code == 200
    except httpx.HTTPError:
        return False
