"""Ports that are kept for processes which are killed and started again."""

import socket
from typing import Any

from gateway.dev.places import bound
from tests.world import World

HOST = "127.0.0.1"


class Ports:
    """Ports that stay reserved while nobody listens there: else a connection may be given that of a dead process."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def reserve(self) -> int:
        self._sockets.append(bound(HOST, 0, "PORT"))
        return int(self._sockets[-1].getsockname()[1])

    def close(self) -> None:
        for one in self._sockets:
            one.close()


class KilledWorld(World):
    """A world whose replicas are started again on their own ports."""

    def __init__(self, ports: Ports, *args: Any, **env: str) -> None:
        super().__init__(*args, **env)
        self._ports = ports

    async def add_replica(self, **env: str) -> str:
        port = self._ports.reserve()
        url = f"http://{HOST}:{port}"
        self.replicas.append((self._spawn(f"replica-{len(self.replicas)}", "serve", {"PORT": str(port), **env}), url))
        return url
