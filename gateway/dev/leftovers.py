"""What kill -9 leaves of a Postgres: lock files that speak of a process which may be somebody else's by now."""

import asyncio
import os
import sys
from pathlib import Path

from gateway.dev.places import PlaceUnusable
from gateway.dev.process import POLL_S

PREDECESSOR_WAIT_S = 10.0


async def clear_leftovers(data: Path, socket: Path) -> None:
    """Remove the lock files of the cluster and of its socket, after the server they speak of has really ended.

    Postgres itself goes by the process id alone, which after a restart of the machine is often somebody else's.
    """
    if sys.platform != "linux":  # Postgres' own check has to do
        return
    pid_file = data / "postmaster.pid"
    deadline = asyncio.get_running_loop().time() + PREDECESSOR_WAIT_S
    while (pid := _first_line(pid_file)) and _runs_on(pid, data):
        if asyncio.get_running_loop().time() > deadline:
            raise PlaceUnusable(f"another PostgreSQL (process {pid}) runs on {data}")
        await asyncio.sleep(POLL_S)
    for path in (pid_file, socket, socket.with_name(f"{socket.name}.lock")):
        path.unlink(missing_ok=True)


def _first_line(path: Path) -> str:
    return path.read_text().split("\n", 1)[0] if path.exists() else ""


def _runs_on(pid: str, data: Path) -> bool:
    """Whether process `pid` is a Postgres that was started, as here, with `-D data`."""
    try:
        return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
