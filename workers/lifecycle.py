"""One worker process: runs every loop until SIGTERM or SIGINT, ends what it has begun.

Neither Redis nor Postgres has to be there: each loop fails, rests and tries again until it is.
"""

import asyncio
import os
import signal
import time
from importlib.metadata import version

import uvloop

from gateway.loops import Loops
from gateway.pulse import Pulse
from gateway.settings import Settings, SettingsError
from gateway.state.server import problems
from gateway.telemetry.complaints import EVERYBODY, Complaints
from gateway.telemetry.logs import Log
from gateway.telemetry.seldom import Seldom
from gateway.telemetry.worker import WorkerMetrics
from workers.crew import crew
from workers.port import bound, listening
from workers.status import Status

STOP_S_MAX = 20.0


def run(settings: Settings) -> int:
    """Work until told to stop; the process' exit code. Raises `SettingsError` when a server's address is missing."""
    if missing := [f"{name} is not set" for name, url in _addresses(settings).items() if not url]:
        raise SettingsError(missing)
    log = Log(time.time, debug=settings.debug)
    Complaints("library", EVERYBODY, Seldom(log, time.monotonic)).listen()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(settings, log))


def _addresses(settings: Settings) -> dict[str, str]:
    return {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url}


async def _work(settings: Settings, log: Log) -> int:
    if found := await problems(settings.redis_url, settings.redis_timeout_ms):
        raise SettingsError(found)
    sock = bound(settings.host, settings.worker_port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = WorkerMetrics(version("llm-gateway"))
    beating = Loops(log).running(Pulse(log).run)
    async with beating, crew(settings, log, metrics) as loops, listening(Status(loops, metrics), sock):
        log.info("worker_started", pid=os.getpid(), loops=[loop.name for loop in loops])
        tasks = [asyncio.create_task(loop.run(stop), name=loop.name) for loop in loops]
        await stop.wait()
        log.info("worker_stopping")
        _, late = await asyncio.wait(tasks, timeout=STOP_S_MAX)
        for task in late:  # what it had read stays pending, and another worker claims it
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        log.info("worker_stopped", cut=[task.get_name() for task in late])
    return 0
