"""A whole system that can be killed part by part: servers of its own, nodes, replicas and workers as processes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.process import Child
from gateway.dev.valkey import EmbeddedValkey
from tests.chaos import node
from tests.chaos.books import Books
from tests.chaos.crowd import Account
from tests.chaos.ledgers import Call, Fault, Key, Kind, Ledgers, Tariff, Work
from tests.chaos.ports import HOST, KilledWorld, Ports
from tests.chaos.victims import POLL_S, Victim, answers
from tests.world import ADMIN_SECRET, World, running

ROOT = Path(__file__).parents[2]
REPLICAS = WORKERS = 2
NODES = 3
"""one that is killed is left alone for 10 s and more: the other two go on"""
TARIFF = Tariff(250_000, 1_500, 7_700)
CREDITS = 1_000_000
PLENTY = {"rate_limit_per_min": None, "monthly_token_limit": None}
QUIET_S_MAX = 100.0
"""leases of the dead live for 15 seconds and 3 more, and a worker waits for others' after Redis was away; what a dead
worker had read is taken over after 30 seconds"""
RECONCILE_S_MAX = 60.0
ASK_S_MAX = 5.0
STARTED = "worker_started"


class Scene:
    """The parts, and what can be read of them from outside."""

    def __init__(self, directory: Path) -> None:
        # `always`: with `everysec` a write may be postponed while a sync is under way, and die with the process
        self._valkey = EmbeddedValkey(directory / "valkey", more={"appendfsync": "always"})
        self._postgres = EmbeddedPostgres(directory / "postgres")
        self._directory = directory
        self._ports = Ports()
        self._nodes: list[Child] = []
        self._urls: list[str] = []
        self.world: World
        self.keys: list[Key] = []
        self.accounts: list[Account] = []

    async def start(self) -> None:
        """Servers and nodes; the world is made, but not running."""
        await asyncio.gather(self._valkey.start(), self._postgres.start())
        for number in range(NODES):
            port = self._ports.reserve()
            told = ["--port", str(port), "--journal", str(self._journal(number))]
            argv = [sys.executable, "-m", "tests.chaos.node", *told]
            env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
            child = Child(f"node-{number}", argv, log=self._directory / f"node-{number}.log", env=env)
            child.spawn()
            self._nodes.append(child)
            self._urls.append(f"http://{HOST}:{port}")
        self.world = KilledWorld(
            self._ports,
            self._valkey.url,
            self._postgres.url,
            self._urls,
            self._directory,
            OLLAMA_SLOTS="16",
            QUEUE_SECONDS_MAX="10",
            TRUSTED_PROXIES=f"{HOST}/32",
        )
        for child, url in zip(self._nodes, self._urls, strict=True):
            await answers(self.world.http, child, f"{url}/api/version")

    async def stop(self) -> None:
        await asyncio.gather(*(child.kill() for child in self._nodes), self._valkey.stop(), self._postgres.stop())
        self._ports.close()

    async def make_keys(self) -> None:
        """One key of each kind, known to the clients as accounts."""
        parts = {"per_request": 0.25, "per_1k_prompt_tokens": 0.0015, "per_1k_completion_tokens": 0.0077}
        await self.world.admin("POST", "/admin/prices", json={"model": "*"} | parts)
        team = (await self.world.admin("POST", "/admin/teams", json={"label": "team", "credits": CREDITS})).json()["id"]
        await self._make_key({}, Key(id=""))
        await self._make_key({"credits": CREDITS}, Key(id="", metered=True))
        await self._make_key({"team_id": team}, Key(id="", team_id=team, team_metered=True))
        await self._make_key({"rate_limit_per_min": 300, "burst": 5, "concurrency": 2}, Key(id=""))

    async def _make_key(self, fields: dict[str, Any], key: Key) -> None:
        made = (await self.world.admin("POST", "/admin/api-keys", json={"label": "chaos", **PLENTY, **fields})).json()
        self.keys.append(Key(id=made["id"], metered=key.metered, team_id=key.team_id, team_metered=key.team_metered))
        self.accounts.append(Account(made["id"], made["key"]))

    def victims(self) -> list[Victim]:
        """Everything that can be killed."""
        world, found = self.world, []

        def of_process(kind: Kind, number: int, child: Child, url: str = "") -> Victim:
            async def start() -> None:
                begun = child.log.read_text().count(STARTED) if child.log else 0
                child.spawn()
                if url:
                    await answers(world.http, child, url)
                while not url and child.log and child.log.read_text().count(STARTED) == begun:
                    assert child.running, child.tail()
                    await asyncio.sleep(POLL_S)

            return Victim(kind=kind, name=f"{kind}-{number}", child=lambda: child, start=start)

        for number, (child, url) in enumerate(world.replicas):
            found.append(of_process("gateway", number, child, f"{url}/ready"))
        for number, child in enumerate(world.workers):
            found.append(of_process("worker", number, child))
        for number, (child, url) in enumerate(zip(self._nodes, self._urls, strict=True)):
            found.append(of_process("node", number, child, f"{url}/api/version"))
        return [*found, *self._servers()]

    def _servers(self) -> list[Victim]:
        def child_of(server: EmbeddedValkey | EmbeddedPostgres) -> Child:
            assert server.child
            return server.child

        valkey, postgres = self._valkey, self._postgres
        return [
            Victim(kind="redis", name="redis", child=lambda: child_of(valkey), start=valkey.start),
            Victim(
                kind="postgres",
                name="postgres",
                child=lambda: child_of(postgres),
                start=postgres.start,
                serves=self._stores_and_administers,
            ),
        ]

    async def _stores_and_administers(self) -> None:
        """Return when workers store rows again and the admin API answers."""
        rows = await self._count_rows()
        while await self._count_rows() == rows:
            await asyncio.sleep(POLL_S)
        while not await self._administers():
            await asyncio.sleep(POLL_S)

    async def _count_rows(self) -> int:
        """-1 while Postgres is away."""
        try:
            connection = await asyncpg.connect(self.world.database_url, timeout=ASK_S_MAX)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return -1
        try:
            rows: int = await connection.fetchval("SELECT count(*) FROM usage_logs")
            return rows
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return -1
        finally:
            connection.terminate()

    async def _administers(self) -> bool:
        """Whether any replica answers operators."""
        for _, url in self.world.replicas:
            with suppress(httpx.HTTPError):
                headers = {"X-Admin-Secret": ADMIN_SECRET}
                reply = await self.world.http.get(f"{url}/admin/teams", headers=headers, timeout=ASK_S_MAX)
                if reply.status_code == 200:
                    return True
        return False

    async def until_quiet(self) -> None:
        """Return when no call is open, no event waits, no slot is taken. Raises `TimeoutError` with what is left."""
        left: dict[str, int] = {}
        try:
            async with asyncio.timeout(QUIET_S_MAX):
                while any((left := await Books(self.world).left()).values()):
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise TimeoutError(f"not quiet after {QUIET_S_MAX:.0f} s: {left}") from None

    def works(self) -> list[Work]:
        return [work for number in range(NODES) for work in node.read(f"node-{number}", self._journal(number))]

    async def ledgers(self, calls: Sequence[Call], faults: Sequence[Fault]) -> Ledgers:
        """All of them, once it is quiet."""
        books = Books(self.world)
        return Ledgers(
            calls=calls,
            works=self.works(),
            rows=await books.rows(),
            faults=sorted(faults, key=lambda fault: fault.killed_s),
            keys=self.keys,
            tariff=TARIFF,
            sums=await books.sums(),
            spent=await books.spent(self.accounts),
        )

    async def reconcile(self) -> "subprocess.CompletedProcess[str]":
        """`llm-gateway reconcile`, as an operator runs it."""
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOST": HOST, "ADMIN_SECRET": ADMIN_SECRET}
        env |= {"PORT": self.world.url.rpartition(":")[2], "DATA_DIR": str(self._directory / "none")}
        command = [sys.executable, "-m", "gateway", "reconcile"]
        return await asyncio.to_thread(
            subprocess.run, command, env=env, cwd=self._directory,
            capture_output=True, text=True, timeout=RECONCILE_S_MAX,
        )  # fmt: skip

    def _journal(self, number: int) -> Path:
        return self._directory / f"node-{number}.journal"


@asynccontextmanager
async def chaos(directory: Path) -> AsyncIterator[Scene]:
    """A scene with everything up, keys made; down again at the end."""
    scene = Scene(directory)
    try:
        await scene.start()
        async with running(scene.world, REPLICAS, WORKERS):
            await scene.make_keys()
            yield scene
    finally:
        await scene.stop()
