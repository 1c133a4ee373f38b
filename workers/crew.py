"""All loops of a worker, and what they work on."""

import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.admin.backends import BackendStore
from gateway.admin.credits import CreditStore
from gateway.admin.keys import KeyStore
from gateway.admin.postgres import Postgres, open_pool
from gateway.admin.prices import PriceStore
from gateway.admin.reconcile import Reconciler
from gateway.admin.stored import StoredUsage
from gateway.admin.teams import TeamStore
from gateway.settings import Settings
from gateway.state.cluster import pipe_to
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Calls, Functions, fleet_source
from gateway.state.ledger import RedisLedger
from gateway.state.libraries import Libraries
from gateway.state.limiter import RedisLimiter
from gateway.state.registry import RegistryDirectory
from gateway.state.timed import TimedCalls
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from workers.batch import BatchPolicy
from workers.books import Books
from workers.clock import RedisClock
from workers.hydrate import Hydrator
from workers.lag import Lag
from workers.loop import RUN_S_MAX, Loop
from workers.reaper import Reaper
from workers.store import UsageStore
from workers.stream import BLOCK_MS, StreamClient, UsageStream, connect
from workers.turn import Turn
from workers.upkeep import Upkeep
from workers.usage import UsageWorker

REAP_REST_S = 2.0
LIBRARIES_REST_S = 2.0
HYDRATE_REST_S = 2.0
LAG_REST_S = 2.0
UPKEEP_REST_S = 3_600.0
COMPARE_REST_S = 3_600.0
COMPARE_FIRST_S = 60.0
COMPARE_S_MAX = 3_600.0
COMPARE_TURN_MS = 3_500_000
"""A little less than the rest, so that who had the last turn gets the next one."""
REDIS_TIMEOUT_MS = 5_000
"""Nobody waits for a worker's call, so it may take longer than a replica's; longer than `BLOCK_MS` at any rate."""
INSERT_S_MAX = 10.0
LOOKUP_S_MAX = 60.0
"""Summing up what keys have spent, and moving rows between partitions, read a lot."""
INSERT_CONNECTIONS_MAX = 4
LOOKUP_CONNECTIONS_MAX = 3


@asynccontextmanager
async def crew(settings: Settings, log: Log, metrics: WorkerMetrics) -> AsyncIterator[list[Loop]]:
    """All loops on adapters that are closed afterwards. Connects to nothing yet."""
    url, redis_url = settings.database_url, settings.redis_url
    async with AsyncExitStack() as stack:
        redis = connect(redis_url, settings.shards, REDIS_TIMEOUT_MS + BLOCK_MS)
        stack.push_async_callback(redis.aclose)
        pipe = pipe_to(redis_url, REDIS_TIMEOUT_MS)
        pipe.start()
        stack.push_async_callback(pipe.close)
        timed = TimedCalls(pipe, metrics.stores, patience_s=REDIS_TIMEOUT_MS / 2_000)
        inserts = await open_pool(
            url, connections_max=INSERT_CONNECTIONS_MAX, statement_s_max=INSERT_S_MAX, metrics=metrics.stores
        )
        stack.push_async_callback(inserts.close)
        lookups = await open_pool(
            url, connections_max=LOOKUP_CONNECTIONS_MAX, statement_s_max=LOOKUP_S_MAX, metrics=metrics.stores
        )
        stack.push_async_callback(lookups.close)
        yield _Crew(settings, log, metrics).loops(redis, timed, inserts, lookups)


class _Crew:
    def __init__(self, settings: Settings, log: Log, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._log = log
        self._metrics = metrics
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        """never used again: a consumer of that name may be removed when it has gone"""

    def loops(self, redis: StreamClient, pipe: Calls, inserts: Postgres, lookups: Postgres) -> list[Loop]:
        settings = self._settings
        lag = Lag(pipe, settings.shards, self._metrics)
        self._metrics.stream_bytes_max.set(settings.usage_stream_bytes_max // settings.shards)
        return [
            *self._usage(redis, pipe, inserts),
            self._reaper(pipe),
            self._loop("functions", Libraries(pipe).restore, LIBRARIES_REST_S),
            self._hydrator(pipe, lookups),
            self._upkeep(lookups, lag),
            self._loop("lag", lag.run_once, LAG_REST_S),
            self._books(pipe, lookups),
        ]

    def _loop(
        self,
        name: str,
        run_once: Callable[[], Awaitable[int]],
        rest_s: float = 0.0,
        *,
        first_s: float = 0.0,
        run_s_max: float = RUN_S_MAX,
    ) -> Loop:
        return Loop(
            name, run_once, self._log, rest_s=rest_s, first_s=first_s, run_s_max=run_s_max, metrics=self._metrics
        )

    def _usage(self, redis: StreamClient, pipe: Calls, postgres: Postgres) -> list[Loop]:
        """For each shard one that makes rows and one that removes dead consumers."""
        store, functions = UsageStore(postgres), Functions(pipe)
        loops = []
        for shard in range(self._settings.shards):
            stream = UsageStream(redis, functions, shard, self._name, BatchPolicy(), self._log)
            worker = UsageWorker(stream, store, self._log, metrics=self._metrics)
            loops.append(self._loop(f"usage-{shard:02d}", worker.run_once))
            loops.append(self._loop(f"retire-{shard:02d}", stream.retire, UPKEEP_REST_S))
        return loops

    def _reaper(self, pipe: Calls) -> Loop:
        shards = self._settings.shards
        reaper = Reaper(pipe, RedisLimiter(Functions(pipe), shards), shards, self._log, metrics=self._metrics)
        return self._loop("reaper", reaper.run_once, REAP_REST_S)

    def _hydrator(self, pipe: Calls, postgres: Postgres) -> Loop:
        settings = self._settings
        hydrator = Hydrator(
            keys=KeyStore(postgres, settings.defaults(), settings.shards),
            teams=TeamStore(postgres),
            prices=PriceStore(postgres),
            backends=BackendStore(postgres),
            directory=KeyDirectory(pipe, Functions(pipe), settings.shards),
            fleet=RegistryDirectory(Functions(pipe, fleet_source())),
            clock=RedisClock(pipe),
            shards=settings.shards,
            log=self._log,
        )
        return self._loop("hydrate", hydrator.run_once, HYDRATE_REST_S)

    def _upkeep(self, postgres: Postgres, lag: Lag) -> Loop:
        upkeep = Upkeep(
            postgres,
            self._log,
            months_kept=self._settings.usage_months_kept,
            oldest_ms=lag.oldest_ms,
            defaults=self._settings.defaults(),
            metrics=self._metrics,
        )
        return self._loop("upkeep", upkeep.run_once, UPKEEP_REST_S)

    def _books(self, pipe: Calls, postgres: Postgres) -> Loop:
        ledger = RedisLedger(pipe, self._settings.shards)
        reconciler = Reconciler(CreditStore(postgres), StoredUsage(postgres), ledger)
        turn = Turn(pipe, self._name, COMPARE_TURN_MS)
        books = Books(reconciler, turn, self._metrics, self._log, time.time)
        return self._loop("books", books.run_once, COMPARE_REST_S, first_s=COMPARE_FIRST_S, run_s_max=COMPARE_S_MAX)
