"""What a run was made with: programs, libraries, the machine, the commit."""

import asyncio
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import redis.asyncio

from tests.bench import nginx, wrk

ROOT = Path(__file__).parents[2]
LIBRARIES = ("uvicorn", "uvloop", "httptools", "msgspec", "hiredis", "redis", "aiohttp", "litestar")
SAY_S = 10.0


async def versions(redis_url: str) -> dict[str, str]:
    """By name, in a fixed order."""
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        server = await client.info("server")
    said = await asyncio.to_thread(
        lambda: {"nginx": _said(nginx.PROGRAM, "-v"), "wrk": _said(wrk.PROGRAM, "--version")}
    )
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "redis server": f"{server.get('server_name', 'redis')} {server.get('valkey_version', server['redis_version'])}",
        **said,
        "kernel": platform.release(),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
    }


def _commit() -> str:
    """With a + where files differ from it; "" where there is no checkout."""
    commit = _run("git", "rev-parse", "--short", "HEAD")
    return commit + "+" * bool(commit and _run("git", "status", "--porcelain", "--untracked-files=no"))


def _said(program: str | None, how: str) -> str:
    """The version in the first line that a program says of itself."""
    return _run(program, how).partition("\n")[0].partition(" [")[0] if program else "none"


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=SAY_S, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode in (0, 1) else ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
