"""wrk, Debian's load generator in C: so many connections that each ask again when they are answered."""

import asyncio
import shutil
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.bench.load import Address

PROGRAM = shutil.which("wrk")
MORE_S = 20.0
"""how much longer than asked it may take"""
_SCRIPT = """
wrk.method = "POST"
wrk.path = "{path}"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
function done(summary, latency, requests)
  local errors = summary.errors
  local result = '\\nRESULT {{"requests":%d,"duration_us":%d,"statuses":%d,"broken":%d,"p50_us":%d,"p99_us":%d}}\\n'
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  local half, most = latency:percentile(50), latency:percentile(99)
  io.write(string.format(result, summary.requests, summary.duration, errors.status, broken, half, most))
end
"""


class Told(Struct):
    """What wrk says of a run. `statuses`: answers of 400 or more; `broken`: exchanges without an answer."""

    requests: int
    duration_us: int
    statuses: int
    broken: int
    p50_us: int
    p99_us: int


def script(path: str, key: str, body: bytes) -> str:
    return _SCRIPT.format(path=path, key=key, body=body.decode())


def read(output: str) -> Told:
    """Raises ValueError for the output of a run that failed."""
    _, found, rest = output.partition("\nRESULT ")
    if not found:
        raise ValueError(f"wrk said no result:\n{output}")
    return msgspec.json.decode(rest.splitlines()[0], type=Told)


async def run(address: Address, script_file: Path, *, connections: int, seconds: float) -> Told:
    """Raises TimeoutError, and ValueError where nobody listens."""
    argv = [str(PROGRAM), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script_file)]
    child = await asyncio.create_subprocess_exec(
        *argv, f"http://{address[0]}:{address[1]}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(seconds + MORE_S):
            output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return read(output.decode())
