"""One worker process: builds its parts, runs every loop until SIGTERM or SIGINT, ends what it has begun.

Neither Redis nor Postgres has to be there: each loop fails, rests and tries again until it is.
"""

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from gateway.admin.backends import BackendStore
from gateway.admin.keys import KeyStore
from gateway.admin.postgres import Postgres, open_pool
from gateway.admin.prices import PriceStore
from gateway.admin.teams import TeamStore
from gateway.settings import Settings, SettingsError
from gateway.state.cluster import pipe_to
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Calls, Functions, fleet_source
from gateway.state.limiter import RedisLimiter
from gateway.state.registry import RegistryDirectory
from gateway.state.server import problems
from gateway.telemetry.logs import Log
from workers.batch import BatchPolicy
from workers.clock import RedisClock
from workers.hydrate import Hydrator
from workers.loop import Loop
from workers.reaper import Reaper
from workers.store import UsageStore
from workers.stream import BLOCK_MS, StreamClient, UsageStream, connect
from workers.upkeep import Upkeep
from workers.usage import UsageWorker

REAP_REST_S = 2.0
HYDRATE_REST_S = 2.0
UPKEEP_REST_S = 3_600.0
REDIS_TIMEOUT_MS = 5_000
"""Nobody waits for a worker's call, so it may take longer than a replica's; longer than `BLOCK_MS` at any rate."""
INSERT_S_MAX = 10.0
LOOKUP_S_MAX = 60.0
"""Summing up what keys have spent, and moving rows between partitions, read a lot."""
INSERT_CONNECTIONS_MAX = 4
LOOKUP_CONNECTIONS_MAX = 2
STOP_S_MAX = 20.0


def run(settings: Settings) -> int:
    """Work until told to stop; the process' exit code. Raises `SettingsError` when a server's address is missing."""
    if missing := [f"{name} is not set" for name, url in _addresses(settings).items() if not url]:
        raise SettingsError(missing)
    log = Log(time.time, debug=settings.debug)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(settings, log))


def _addresses(settings: Settings) -> dict[str, str]:
    return {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url}


async def _work(settings: Settings, log: Log) -> int:
    if found := await problems(settings.redis_url, settings.redis_timeout_ms):
        raise SettingsError(found)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _loops(settings, log) as loops:
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


@asynccontextmanager
async def _loops(settings: Settings, log: Log) -> AsyncIterator[list[Loop]]:
    """All loops of a worker on adapters that are closed afterwards. Connects to nothing yet."""
    redis = connect(settings.redis_url, settings.shards, REDIS_TIMEOUT_MS + BLOCK_MS)
    pipe = pipe_to(settings.redis_url, REDIS_TIMEOUT_MS)
    pipe.start()
    inserts = await open_pool(
        settings.database_url, connections_max=INSERT_CONNECTIONS_MAX, statement_s_max=INSERT_S_MAX
    )
    lookups = await open_pool(
        settings.database_url, connections_max=LOOKUP_CONNECTIONS_MAX, statement_s_max=LOOKUP_S_MAX
    )
    try:
        yield [
            *_usage_loops(settings, log, redis, inserts),
            *_key_loops(settings, log, pipe, lookups),
            Loop("upkeep", Upkeep(lookups, log).run_once, log, rest_s=UPKEEP_REST_S),
        ]
    finally:
        await pipe.close()
        await redis.aclose()
        await inserts.close()
        await lookups.close()


def _usage_loops(settings: Settings, log: Log, redis: StreamClient, postgres: Postgres) -> list[Loop]:
    """For each shard one that makes rows and one that removes dead consumers."""
    consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    store = UsageStore(postgres)
    loops = []
    for shard in range(settings.shards):
        stream = UsageStream(redis, shard, consumer, BatchPolicy(), log)
        loops.append(Loop(f"usage-{shard:02d}", UsageWorker(stream, store, log).run_once, log))
        loops.append(Loop(f"retire-{shard:02d}", stream.retire, log, rest_s=UPKEEP_REST_S))
    return loops


def _key_loops(settings: Settings, log: Log, pipe: Calls, postgres: Postgres) -> list[Loop]:
    functions = Functions(pipe)
    directory = KeyDirectory(pipe, functions, settings.shards)
    reaper = Reaper(pipe, RedisLimiter(functions, settings.shards), settings.shards, log)
    hydrator = Hydrator(
        keys=KeyStore(postgres, settings.defaults(), settings.shards),
        teams=TeamStore(postgres),
        prices=PriceStore(postgres),
        backends=BackendStore(postgres),
        directory=directory,
        fleet=RegistryDirectory(Functions(pipe, fleet_source())),
        clock=RedisClock(pipe),
        shards=settings.shards,
        log=log,
    )
    return [
        Loop("reaper", reaper.run_once, log, rest_s=REAP_REST_S),
        Loop("hydrate", hydrator.run_once, log, rest_s=HYDRATE_REST_S),
    ]
