"""Everything that `up` runs, as one tree of processes: started at once where possible, stopped in order.

valkey ┐
postgres ┼─ migrations ─┬─ worker
fake Ollama (if none answers) ┴─ gateway (one replica) ── GET /ready ── demo key
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.dev.home import ADMIN_SECRET, DEMO_KEY, Home
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.probe import Node, ask_all
from gateway.dev.process import Child
from gateway.dev.screen import screen
from gateway.dev.valkey import EmbeddedValkey
from gateway.settings import Settings

PROBE_WAIT_S = 3.0
READY_WAIT_S = 60.0
KEY_WAIT_S = 20.0
ASK_WAIT_S = 5.0
POLL_S = 0.05
WATCH_S = 0.2
STOP_WAIT_S = 15.0
SETTLE_WAIT_S = 10.0  # beside DRAIN_SECONDS, for settling what was cut
HURRY_WAIT_S = 2.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  compared with, not bound to

Migrate = Callable[[str], Awaitable[Any]]


class CannotStart(Exception):
    """`up` cannot start, or something it started has ended. The message is for the person in front of the screen."""


class Stack:
    """The servers of one DATA_DIR. `migrate` brings a database, given by its URL, up to date."""

    def __init__(self, settings: Settings, home: Home, migrate: Migrate) -> None:
        self._settings = settings
        self._home = home
        self._migrate = migrate
        self._valkey: EmbeddedValkey | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._children: list[Child] = []
        self._hurry = asyncio.Event()
        self.nodes: list[Node] = []
        self.fake: Node | None = None
        self.admin_secret = ""
        self.demo_key = ""
        self.host, self.port = ANY_ADDRESS.get(settings.host, settings.host), 0

    @property
    def url(self) -> str:
        """Where this machine reaches the gateway."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def screen(self, seconds: float) -> str:
        """What to know about it, when it has started after `seconds`."""
        models = [model for node in (self.nodes if self.fake is None else [self.fake]) for model in node.chat_models]
        return screen(
            url=self.url,
            admin_secret=self.admin_secret,
            demo_key=self.demo_key,
            nodes=self.nodes,
            fake=self.fake,
            model=self._settings.ollama_default_model or next(iter(models), "llama3.2:3b"),
            state=str(self._home.path),
            embedded=[name for name, server in (("valkey", self._valkey), ("postgres", self._postgres)) if server],
            seconds=seconds,
        )

    async def start(self) -> None:
        """Start all of it and wait until it can be used. Raises `CannotStart` and what its parts raise."""
        self.port = free_port(self._settings.host, self._settings.port)
        self._home.announce(self.url)
        self.admin_secret = self._settings.admin_secret or self._saved_admin_secret()
        redis_url, database_url, ollama_urls = await all_or_error(self._redis(), self._database(), self._backends())
        env = os.environ | {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "OLLAMA_BASE_URL": ollama_urls,
            "ADMIN_SECRET": self.admin_secret,
            "HOST": self._settings.host,
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
        }
        self._spawn("worker", ["-m", "gateway", "worker"], env)
        self._spawn("gateway", ["-m", "gateway", "serve"], env)
        await self._until_ready()
        self.demo_key = await self._usable_demo_key()

    async def watch(self) -> None:
        """Raise `CannotStart` as soon as one of the servers has ended; returns never."""
        while True:
            self.check()
            await asyncio.sleep(WATCH_S)

    def check(self) -> None:
        """Raises `CannotStart` for a server that has ended, with the end of its log."""
        servers = [server.child for server in (self._valkey, self._postgres) if server]
        for child in (*servers, *self._children):
            if child and child.returncode is not None:
                raise CannotStart(str(child.failure(f"has ended (code {child.returncode}); the end of {child.log}:")))

    def hurry(self) -> None:
        """Do not wait for running calls any more."""
        self._hurry.set()

    async def stop(self) -> None:
        """The replica first, which drains; then the worker, which stores what that settled; then what they need."""
        for child in reversed(self._children):
            wait_s = self._settings.drain_seconds + SETTLE_WAIT_S if child.name == "gateway" else STOP_WAIT_S
            await self._stop_child(child, signal.SIGTERM, wait_s)
        for server, sig in ((self._valkey, signal.SIGTERM), (self._postgres, signal.SIGINT)):
            if server and server.child:
                await self._stop_child(server.child, sig, STOP_WAIT_S)

    async def _stop_child(self, child: Child, sig: signal.Signals, wait_s: float) -> None:
        stopping = asyncio.ensure_future(child.stop(sig, wait_s))
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stopping.done() and not await child.exited(HURRY_WAIT_S):
            await child.kill()
        await stopping

    async def _redis(self) -> str:
        if self._settings.redis_url:
            return self._settings.redis_url
        self._valkey = EmbeddedValkey(self._home.path / "valkey", log=self._home.log("valkey"))
        await self._valkey.start()
        return self._valkey.url

    async def _database(self) -> str:
        url = self._settings.database_url
        if not url:
            self._postgres = EmbeddedPostgres(self._home.path / "postgres", log=self._home.log("postgres"))
            await self._postgres.start()
            url = self._postgres.url
        await self._migrate(url)
        return url

    async def _backends(self) -> str:
        """The nodes to use, comma-separated: those configured, or the fake when none of them answers."""
        self.nodes = await ask_all(self._settings.ollama_base_url, PROBE_WAIT_S)
        if any(not node.problem for node in self.nodes):
            return ",".join(self._settings.ollama_base_url)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            argv = ["-m", "gateway.dev.fake_ollama", "--fd", str(listening.fileno())]
            self._spawn("fake-ollama", argv, dict(os.environ), pass_fds=(listening.fileno(),))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        (self.fake,) = await ask_all((url,), READY_WAIT_S)
        self.check()
        return url

    def _spawn(self, name: str, args: list[str], env: dict[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        child = Child(name, [sys.executable, *args], log=self._home.log(name), env=env, pass_fds=pass_fds)
        child.spawn()
        self._children.append(child)

    async def _until_ready(self) -> None:
        import httpx

        deadline = asyncio.get_running_loop().time() + READY_WAIT_S
        said = "nothing"
        async with httpx.AsyncClient(base_url=self.url, timeout=ASK_WAIT_S, trust_env=False) as client:
            while asyncio.get_running_loop().time() < deadline:
                self.check()
                try:
                    answer = await client.get("/ready")
                except httpx.HTTPError:
                    await asyncio.sleep(POLL_S)
                    continue
                if answer.status_code == 200:
                    return
                said = answer.text
                await asyncio.sleep(POLL_S)
        logs = self._home.log("gateway").parent
        raise CannotStart(f"the gateway was not ready after {READY_WAIT_S:.0f} s; /ready said {said}; logs: {logs}")

    async def _usable_demo_key(self) -> str:
        """The saved demo key if this gateway knows it (the database may be another one now), else a new one."""
        import httpx

        async with httpx.AsyncClient(base_url=self.url, timeout=ASK_WAIT_S, trust_env=False) as client:
            saved = self._home.secret(DEMO_KEY)
            if saved and await self._known(client, saved):
                return saved
            header = {"X-Admin-Secret": self.admin_secret}
            answer = await client.post("/admin/api-keys", json={"label": "demo"}, headers=header)
            if answer.status_code not in {200, 201}:
                raise CannotStart(f"the gateway made no demo key: HTTP {answer.status_code} {answer.text}")
            key = str(answer.json()["key"])
            self._home.keep_secret(DEMO_KEY, key)
            return key

    async def _known(self, client: Any, key: str) -> bool:
        deadline = asyncio.get_running_loop().time() + KEY_WAIT_S
        while True:
            answer = await client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
            if answer.status_code < 500 or asyncio.get_running_loop().time() > deadline:
                return bool(answer.status_code not in {401, 403})
            await asyncio.sleep(POLL_S)

    def _saved_admin_secret(self) -> str:
        if not self._home.secret(ADMIN_SECRET):
            self._home.keep_secret(ADMIN_SECRET, secrets.token_urlsafe(32))
        return self._home.secret(ADMIN_SECRET)


async def all_or_error(*tasks: Awaitable[Any]) -> list[Any]:
    """All results; on the first failure the others are still waited for, so that what they started can be stopped."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)


def free_port(host: str, port: int) -> int:
    """`port` if nothing listens there, or any free one for 0. Raises `CannotStart` with what to do."""
    try:
        infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(infos[0][0], socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(infos[0][4])
            return int(sock.getsockname()[1])
    except OSError as error:
        raise CannotStart(f"cannot listen on HOST {host}, PORT {port} ({error.strerror}): set another PORT") from None
