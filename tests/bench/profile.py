"""py-spy on the gateway while scenarios run. What it costs is in the figures: they are not for comparing then."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.dev.places import CannotStart

PROGRAM = "py-spy"
RATE_HZ = 200
END_S = 60.0
FORMATS = {".svg": "flamegraph", ".txt": "raw", ".json": "speedscope"}


@asynccontextmanager
async def recorded(pid: int, out: Path | None) -> AsyncIterator[None]:
    """Record what the process does meanwhile, without when it waits, into `out`; None: do nothing."""
    if out is None:
        yield
        return
    program = shutil.which(PROGRAM)
    if program is None or out.suffix not in FORMATS:
        raise CannotStart(f"a profile needs {PROGRAM} in PATH, and a name that ends in {' or '.join(FORMATS)}")
    argv = ["record", "--pid", str(pid), "--rate", str(RATE_HZ), "--format", FORMATS[out.suffix], "--output", str(out)]
    child = await asyncio.create_subprocess_exec(program, *argv, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGINT)
            async with asyncio.timeout(END_S):
                await child.wait()
