"""Everything that one run needs, started and stopped: stores, nodes, nginx, the gateway on a core of its own."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import redis.asyncio

from gateway.cli import open_files
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.valkey import EmbeddedValkey
from gateway.state import keyspace
from tests.bench import gateway
from tests.bench.books import Books, Rows
from tests.bench.children import Children, signal_all
from tests.bench.litellm import LiteLlm
from tests.bench.load import Address
from tests.bench.nodes import Nodes, free_address
from tests.bench.processor import Cores, on_core, tree
from tests.bench.scenario import DIRECT, GATEWAY, LITELLM, NGINX, REDIS
from tests.bench.stats import idle
from workers.migrate import migrate

DRAIN_S = 300.0
POLL_S = 0.02
ADMITTED = "gateway_calls_total"


class System:
    """What runs. `start` it, and `stop` it."""

    def __init__(self, directory: Path, cores: Cores, models: list[str], quick_model: str) -> None:
        self.directory = directory
        self.cores = cores
        self.children = Children(cores)
        self.nodes = Nodes(directory, self.children, models, quick_model)
        self.valkey = EmbeddedValkey(directory / "valkey", port=free_address()[1])
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.books = Books()
        self.key = ""
        self._peer: LiteLlm | None = None
        self._replicas: list[gateway.Replica] = []
        self._admitted_before = 0
        """calls of replicas that have ended"""

    async def start(self) -> None:
        await asyncio.gather(self.valkey.start(), self.postgres.start(), self.nodes.start())
        await migrate(self.postgres.url)
        self.stores = gateway.Stores(self.valkey.tcp_url, self.postgres.url, self.nodes.addresses)
        self.worker = gateway.worker("worker", self.stores, self.directory)
        self.children.spawn(self.worker)
        self.replica = await self.new_replica("gateway")
        await self.replica.admin("POST", "/prices", **gateway.PRICE)
        self.key = await self.replica.create_key()

    async def stop(self) -> None:
        await self.children.kill()
        await asyncio.gather(self.valkey.stop(), self.postgres.stop())

    async def new_replica(self, name: str, core: int | None = None) -> gateway.Replica:
        """One more, on the measured core unless told otherwise."""
        replica = gateway.Replica(name, self.stores, self.directory)
        self.children.spawn(replica.child, measured=True, core=core)
        self._replicas.append(replica)
        await replica.ready()
        return replica

    async def retire(self, replica: gateway.Replica) -> None:
        """End one that is not needed any more, once its calls are over."""
        await replica.quiet()
        self._admitted_before += round(await replica.metric(ADMITTED))
        self._replicas.remove(replica)
        await replica.child.kill()

    async def add_peer(self, program: Path) -> None:
        """LiteLLM, on the measured core. Raises `ChildFailed` or TimeoutError; then there is none."""
        peer = LiteLlm(program, self.directory, self.nodes.by_model())
        self.children.spawn(peer.child, measured=True)
        try:
            await peer.ready()
        except BaseException:
            await peer.child.kill()
            raise
        self._peer = peer
        signal_all(self.pids(LITELLM), signal.SIGSTOP)

    @contextmanager
    def awake(self, target: str) -> Iterator[None]:
        """The peer is stopped but in its own rounds: it uses some of the core even when nobody asks it anything."""
        pids = self.pids(target) if target == LITELLM else []
        signal_all(pids, signal.SIGCONT)
        try:
            yield
        finally:
            signal_all(pids, signal.SIGSTOP)

    def has(self, target: str) -> bool:
        return target == DIRECT or bool(self.pids(target))

    def address_of(self, target: str, *, quick: bool) -> Address:
        """`quick`: where only what is answered at once is asked for."""
        if target == DIRECT:
            return self.nodes.quick if quick else self.nodes.slow
        if target == NGINX:
            return self.nodes.quick_proxy if quick else self.nodes.slow_proxy
        return self._peer.address if self._peer and target == LITELLM else self.replica.address

    def key_for(self, target: str) -> str:
        return self._peer.key if self._peer and target == LITELLM else self.key

    def pids(self, name: str) -> list[int]:
        """The processes of a target, or of Redis; none of one that is not there."""
        roots = {
            GATEWAY: self.replica.child.pid,
            REDIS: self.valkey.pid,
            NGINX: self.nodes.proxy_pid,
            LITELLM: self._peer.child.pid if self._peer else 0,
        }
        return tree(roots[name]) if roots.get(name) else []

    async def rest(self) -> None:
        """Wait until nodes answer nobody, and no call runs or is unsettled. Raises TimeoutError."""
        await idle(self.nodes.slow)
        await self.replica.quiet()

    def pause_worker(self) -> None:
        """Usage events wait in Redis: in production it is another machine that makes rows of them."""
        signal_all([self.worker.pid], signal.SIGSTOP)

    def resume_worker(self) -> None:
        signal_all([self.worker.pid], signal.SIGCONT)

    def spread(self, over: set[int]) -> None:
        """Let this process, Redis and the nodes run on these cores."""
        for root in (os.getpid(), self.valkey.pid, *self.nodes.pids):
            for pid in [root] if root == os.getpid() else tree(root):
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), over)

    def settled_elsewhere(self, calls: int) -> None:
        """So many calls have been admitted and settled well without a replica."""
        self._admitted_before += calls
        self.books.add(calls, 0)

    async def events(self) -> int:
        """Usage events that are no rows yet."""
        async with redis.asyncio.Redis.from_url(self.valkey.tcp_url) as client:
            return int(await client.xlen(keyspace.usage(0)))

    async def rows(self) -> Rows:
        """What is in Postgres when no call runs any more and every event is a row. The worker must not be paused."""
        admitted = self._admitted_before
        for replica in self._replicas:
            await replica.quiet()
            admitted += round(await replica.metric(ADMITTED))
        async with asyncio.timeout(DRAIN_S):
            while await self.events():
                await asyncio.sleep(POLL_S)
        connection = await asyncpg.connect(self.postgres.url)
        try:
            found = await connection.fetch("SELECT status = 'ok' AS good, count(*) FROM usage_logs GROUP BY 1")
        finally:
            await connection.close()
        by_good = {row["good"]: row["count"] for row in found}
        return Rows(sum(by_good.values()), by_good.get(True, 0), admitted)


@asynccontextmanager
async def running(cores: Cores, models: list[str], quick_model: str) -> AsyncIterator[System]:
    """The system on files of its own, which are removed afterwards."""
    open_files.allow_all()
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))  # short enough for a socket
    directory.chmod(0o711)
    system = System(directory, cores, models, quick_model)
    try:
        with on_core(cores.rest):
            await system.start()
            yield system
    finally:
        await system.stop()
        shutil.rmtree(directory, ignore_errors=True)
