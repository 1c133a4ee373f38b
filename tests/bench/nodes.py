"""What answers in place of Ollama, and nginx before it."""

import resource
import sys
from pathlib import Path

from gateway.dev.places import free_port
from gateway.dev.process import Child
from tests.bench import nginx
from tests.bench.children import Children
from tests.bench.load import Address

HOST = "127.0.0.1"


class Nodes:
    """`slow` streams and takes its time; `quick` only answers at once, and is faster at that.

    `slow_proxy` and `quick_proxy` are nginx before them, where it is installed; else `quick` is `slow`.
    """

    def __init__(self, directory: Path, children: Children, models: list[str], quick_model: str) -> None:
        self._directory = directory
        self._children = children
        self._models = models if nginx.PROGRAM else [*models, quick_model]
        self._quick_model = quick_model
        self._roots: list[Child] = []
        self._proxy: Child | None = None
        self.slow = free_address()
        self.quick = free_address() if nginx.PROGRAM else self.slow
        self.slow_proxy, self.quick_proxy = free_address(), free_address()

    @property
    def addresses(self) -> list[Address]:
        return list(dict.fromkeys((self.slow, self.quick)))

    @property
    def proxy_pid(self) -> int:
        return self._proxy.pid if self._proxy else 0

    @property
    def pids(self) -> list[int]:
        """Of the nodes, without the proxy."""
        return [child.pid for child in self._roots]

    def by_model(self) -> dict[str, Address]:
        return dict.fromkeys(self._models, self.slow) | {self._quick_model: self.quick}

    async def start(self) -> None:
        self._roots.append(await self.new_stub("stub", self.slow, self._models))
        if nginx.PROGRAM:
            quick = self._nginx("quick-node", [nginx.node(self.quick[1], self._quick_model)], measured=False)
            await self._children.listens(quick, self.quick)
            self._roots.append(quick)
            servers = [nginx.proxy(self.slow_proxy[1], self.slow), nginx.proxy(self.quick_proxy[1], self.quick)]
            self._proxy = self._nginx("nginx", servers, measured=True)
            await self._children.listens(self._proxy, self.slow_proxy)

    async def new_stub(self, name: str, address: Address, models: list[str]) -> Child:
        argv = [sys.executable, "-m", "tests.bench.stub", str(address[1]), *models]
        child = Child(name, argv, log=self._directory / f"{name}.log")
        self._children.spawn(child)
        await self._children.listens(child, address)
        return child

    async def new_nginx(self, name: str) -> tuple[Child, Address]:
        """One more proxy before the node that streams; nginx must be there."""
        address = free_address()
        child = self._nginx(name, [nginx.proxy(address[1], self.slow)], measured=True)
        await self._children.listens(child, address)
        return child, address

    def _nginx(self, name: str, servers: list[str], *, measured: bool) -> Child:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        child = nginx.child(name, self._directory / name, servers, access_log=measured, files=files)
        self._children.spawn(child, measured=measured)
        return child


def free_address() -> Address:
    return HOST, free_port(HOST, 0)
