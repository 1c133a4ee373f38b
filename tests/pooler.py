"""PgBouncer in transaction mode in front of a Postgres: the kind of pooler that Supabase puts in front of its own."""

import asyncio
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from gateway.dev.account import as_user
from gateway.dev.places import private_dir
from gateway.dev.process import POLL_S, Child

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
PORT = 6432
START_WAIT_S = 20.0
SESSIONS_MAX = 3
"""of each user: fewer than the gateway's connections, so that sessions do change hands"""
SETTINGS = f"""
[databases]
* = host={{host}} port={{port}}
[pgbouncer]
listen_addr =
listen_port = {PORT}
unix_socket_dir = {{directory}}
auth_type = trust
auth_file = {{directory}}/users
pool_mode = transaction
default_pool_size = {SESSIONS_MAX}
max_client_conn = 200
"""
PREPARED_SINCE = (1, 21)
"""The version that began to keep prepared statements for clients; none are wanted here."""


def version() -> tuple[int, int]:
    said = subprocess.run([str(PROGRAM), "--version"], capture_output=True, text=True, check=True, timeout=START_WAIT_S)
    major, minor = said.stdout.split()[1].split(".")[:2]
    return int(major), int(minor)


class Pooler:
    """One, on a unix socket in a directory of its own; trusts whoever may enter that."""

    def __init__(self, directory: Path, postgres_url: str, users: list[str]) -> None:
        """`postgres_url`: an embedded one's, on a unix socket. `users`: who may come."""
        self._directory = directory
        self._host = parse_qs(urlsplit(postgres_url).query)["host"][0]
        self._users = users
        self._child: Child | None = None

    def url_of(self, database: str, user: str) -> str:
        return f"postgresql://{user}@/{database}?host={self._directory}&port={PORT}"

    async def start(self, database: str) -> None:
        """Ready when it returns: the first of the users has reached that database. It refuses to run as root."""
        nobody = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        private_dir(self._directory, nobody)
        settings = self._directory / "pgbouncer.ini"
        settings.write_text(
            SETTINGS.format(directory=self._directory, host=self._host, port=5432)
            + "max_prepared_statements = 0\n" * (version() >= PREPARED_SINCE)
        )
        (self._directory / "users").write_text("".join(f'"{user}" ""\n' for user in self._users))
        prefix = [] if nobody is None else as_user(nobody)
        log = self._directory / "pgbouncer.log"
        self._child = Child(
            "PgBouncer", [*prefix, str(PROGRAM), str(settings)], log=log, user=None if prefix else nobody
        )
        self._child.spawn()
        async with asyncio.timeout(START_WAIT_S):
            while not await self._answers(database):
                assert self._child.running, self._child.tail()
                await asyncio.sleep(POLL_S)

    async def _answers(self, database: str) -> bool:
        try:
            connection = await asyncpg.connect(self.url_of(database, self._users[0]), statement_cache_size=0)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def stop(self) -> None:
        if self._child:
            await self._child.stop()
