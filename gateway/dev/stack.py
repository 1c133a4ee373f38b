"""Everything that `up` runs, as one tree of processes: started at once where possible, stopped in order.

    1  valkey | postgres, then migrations | a fake Ollama when no node answers
    2  worker | gateway, one replica
    3  GET /ready says 200; the demo key

Stopping begins with the replica, which drains, and ends with what everything else stands on.
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.dev.home import ADMIN_SECRET, Home
from gateway.dev.places import CannotStart, free_port, url_of
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.probe import Node, ask_all
from gateway.dev.process import Child
from gateway.dev.screen import screen
from gateway.dev.valkey import EmbeddedValkey
from gateway.dev.visitor import Visitor
from gateway.settings import FILE, Settings

PROBE_WAIT_S = 3.0
FAKE_WAIT_S = 30.0
WATCH_S = 0.2
STOP_WAIT_S = 20.0  # the gateway: beside its draining, for settling what was cut
HURRY_WAIT_S = 2.0

Migrate = Callable[[str], Awaitable[Any]]


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
        self.url = ""
        """where this machine reaches the gateway"""
        self.admin_url = ""
        """and its admin API"""

    def screen(self, seconds: float) -> str:
        """What to know about it, when it has started after `seconds`."""
        models = [model for node in (self.nodes if self.fake is None else [self.fake]) for model in node.chat_models]
        return screen(
            url=self.url,
            admin_url=self.admin_url,
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
        host, admin_port = self._settings.host, self._settings.admin_port
        port = free_port(host, self._settings.port)
        self.url = self.admin_url = url_of(host, port)
        if admin_port:
            self.admin_url = url_of(host, free_port(host, admin_port, "ADMIN_PORT"))
        self._home.announce(self.url, self.admin_url)
        self.admin_secret = self._settings.admin_secret or self._saved_admin_secret()
        redis_url, database_url, ollama_urls = await all_or_error(self._redis(), self._database(), self._backends())
        env = os.environ | {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "OLLAMA_BASE_URL": ollama_urls,
            "ADMIN_SECRET": self.admin_secret,
            "HOST": host,
            "PORT": str(port),
            "ADMIN_PORT": str(admin_port),
            "PYTHONUNBUFFERED": "1",
            **{name + FILE: "" for name in ("REDIS_URL", "DATABASE_URL", "ADMIN_SECRET")},  # they are said above
        }
        self._spawn("worker", ["-m", "gateway", "worker"], env)
        self._spawn("gateway", ["-m", "gateway", "serve"], env)
        async with Visitor(self.url, self.admin_url, self.admin_secret) as visitor:
            await visitor.until_ready(self.check)
            self.demo_key = await visitor.demo_key(self._home)

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
            wait_s = STOP_WAIT_S
            if child.name == "gateway":
                wait_s += self._settings.balancer_seconds + self._settings.drain_seconds
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
        (self.fake,) = await ask_all((url,), FAKE_WAIT_S)
        self.check()
        if self.fake.problem:
            raise CannotStart(f"the fake Ollama {self.fake.problem}")
        return url

    def _spawn(self, name: str, args: list[str], env: dict[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        child = Child(name, [sys.executable, *args], log=self._home.log(name), env=env, pass_fds=pass_fds)
        child.spawn()
        self._children.append(child)

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
