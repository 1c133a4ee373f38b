"""The composition root: the only module that constructs adapters. Nothing here decides anything about a call."""

import asyncio
import gc
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

from litestar import Litestar
from msgspec import Struct

from gateway.admin.aliases import AliasStore
from gateway.admin.audit import AuditStore
from gateway.admin.backends import BackendStore
from gateway.admin.credits import CreditStore
from gateway.admin.keys import KeyStore
from gateway.admin.postgres import Postgres, open_pool
from gateway.admin.prices import PriceStore
from gateway.admin.publisher import Publisher
from gateway.admin.reconcile import Reconciler
from gateway.admin.replays import Replays
from gateway.admin.stored import StoredUsage
from gateway.admin.teams import TeamStore
from gateway.admin.tiers import TierStore
from gateway.admin.usage import UsageReports
from gateway.backends import fleet_settings
from gateway.backends.fleet import Fleet
from gateway.backends.library import Library
from gateway.backends.pool import Pool
from gateway.core import ids
from gateway.core.addresses import Proxies
from gateway.core.call import Call
from gateway.core.keys import Peppers
from gateway.dialects.policy import Policy
from gateway.loops import Loops
from gateway.pipeline import Pipeline
from gateway.running import Running
from gateway.settings import Settings
from gateway.state.cluster import pipe_to
from gateway.state.dead import DeadEvents
from gateway.state.directory import KeyDirectory
from gateway.state.failures import Failures
from gateway.state.functions import Functions, fleet_source
from gateway.state.inspector import RedisInspector
from gateway.state.leases import RedisLeases
from gateway.state.ledger import RedisLedger
from gateway.state.limiter import RedisLimiter
from gateway.state.placement import RedisPlacement
from gateway.state.registry import RegistryDirectory
from gateway.state.wakes import Wakes
from gateway.telemetry import gauges
from gateway.telemetry.fleet import BackendObserver
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import CallObserver
from gateway.web.admin.deps import AdminDeps
from gateway.web.body import Intake
from gateway.web.calls import CallDeps
from gateway.web.credentials import Door
from gateway.web.own_use import OWN_USE_S_MAX, OwnUses
from gateway.web.public import PublicDeps
from gateway.web.pulling import PullDeps
from gateway.web.router import application

FLUSH_S = 5.0
"""how long a stopping replica goes on trying to settle what is still owed to Redis"""
OWN_USE_CONNECTIONS_MAX = 2
"""to Postgres, for keys that ask what they have used: they cannot take the operator's away"""


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def new_call_id() -> str:
    return ids.uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(ids.ENTROPY_BYTES))


class Redis(Struct, frozen=True):
    """What the admin API uses of Redis."""

    functions: Functions
    directory: KeyDirectory
    registry: RegistryDirectory
    inspector: RedisInspector
    ledger: RedisLedger
    dead: DeadEvents
    door: Door


class Replica:
    """One replica: its Litestar app, and how it stops. Opens nothing before the app's lifespan begins."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.log = Log(time.time, debug=settings.debug)
        self.running = Running()
        self.draining = False
        self._peppers = Peppers(settings.key_pepper, *settings.key_pepper_previous)
        self._proxies = Proxies(settings.trusted_proxies)
        self.app = application(
            self._lifespan,
            self.log,
            new_call_id,
            body_bytes_max=settings.body_bytes_max,
            cors_origins=settings.cors_origins,
            admin_port=settings.admin_port,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncIterator[None]:
        settings = self._settings
        async with AsyncExitStack() as stack:
            pipe = pipe_to(settings.redis_url, settings.redis_timeout_ms)
            pipe.start()
            stack.push_async_callback(pipe.close)
            functions = Functions(pipe)
            failures = Failures(functions, settings.shards, monotonic_ms, per_min=settings.key_failures_per_min)
            budget = settings.usage_stream_bytes_max
            limiter = RedisLimiter(functions, settings.shards, shadow=settings.shadow_limits, stream_bytes_max=budget)
            inspector = RedisInspector(functions, settings.shards, failures, stream_bytes_max=budget)
            directory = KeyDirectory(pipe, functions, settings.shards)
            leases = RedisLeases(limiter, failures, monotonic_ms, self._late, decision_ms=settings.redis_timeout_ms)
            door = Door(self._peppers, self._proxies, failures, self._settings.key_pepper.encode())
            metrics = Metrics()

            registry = Functions(pipe, fleet_source())
            name = secrets.token_hex(8)
            fleet = self._fleet(RedisPlacement(registry, name), metrics)
            stack.push_async_callback(fleet.end, FLUSH_S)
            await fleet.begin()
            wakes = Wakes(settings.redis_url, name, fleet.line.woken)

            database = await open_pool(settings.database_url)
            stack.push_async_callback(database.close)
            for_keys = await open_pool(
                settings.database_url, connections_max=OWN_USE_CONNECTIONS_MAX, statement_s_max=OWN_USE_S_MAX
            )
            stack.push_async_callback(for_keys.close)
            own_uses = OwnUses(UsageReports(for_keys))
            observer = CallObserver(metrics, self.log)
            app.state.openapi = []
            app.state.calls = self._calls(
                Pipeline(leases, fleet.pool, monotonic_ms, observer), fleet.pool, observer, door
            )
            ledger = RedisLedger(pipe, settings.shards)
            dead = DeadEvents(pipe, functions, settings.shards)
            redis = Redis(functions, directory, RegistryDirectory(registry), inspector, ledger, dead, door)
            app.state.admin = self._admin(database, redis, fleet.pool, own_uses)
            app.state.pull = self._pull(fleet.library, fleet.pool)
            app.state.public = PublicDeps(
                inspector=inspector,
                own_uses=own_uses,
                door=door,
                fleet=fleet.pool,
                library=fleet.library,
                intake=app.state.calls.intake,
                metrics=metrics,
                gauges=partial(_gauges, metrics, leases, fleet),
                snapshot=fleet.view.snapshot,
                draining=lambda: self.draining,
                keys_loaded=partial(_keys_loaded, directory, settings.shards),
                database=app.state.admin.keys.now_us,
                version=version("llm-gateway"),
            )
            async with Loops(self.log).running(leases.run, wakes.run, *fleet.loops):
                _freeze_imports()
                yield
                await self._end_calls()
            await leases.flush(FLUSH_S)
            self.log.info("stopped", unsettled_calls=leases.unsettled)

    def _fleet(self, placement: RedisPlacement, metrics: Metrics) -> Fleet:
        settings, observer = self._settings, BackendObserver(metrics, self.log)
        return Fleet(
            fleet_settings.of(settings),
            placement,
            observer,
            clock_ms=monotonic_ms,
            chance=secrets.SystemRandom().random,
            new_id=new_call_id,
            on_change=observer.changed,
        )

    def _calls(self, pipeline: Pipeline, fleet: Pool, observer: CallObserver, door: Door) -> CallDeps:
        return CallDeps(
            pipeline=pipeline,
            fleet=fleet,
            running=self.running,
            door=door,
            clock_ms=monotonic_ms,
            clock_s=time.time,
            new_id=new_call_id,
            observer=observer,
            intake=Intake(self._settings.body_bytes_max),
            policy=Policy(
                context_tokens_max=self._settings.context_tokens_max,
                keep_alive_s_max=self._settings.keep_alive_seconds_max,
                output_tokens_max=self._settings.output_tokens_max,
            ),
            beat_s=self._settings.beat_seconds,
            routing_headers=self._settings.routing_headers,
        )

    def _pull(self, library: Library, pool: Pool) -> PullDeps:
        return PullDeps(
            library=library,
            snapshot=pool.snapshot,
            registries=self._settings.pull_registries,
            allow_cloud=self._settings.allow_cloud_models,
            clock_ms=monotonic_ms,
            new_id=new_call_id,
        )

    def _admin(self, database: Postgres, redis: Redis, fleet: Pool, own_uses: OwnUses) -> AdminDeps:
        settings = self._settings
        keys, teams, prices = (
            KeyStore(database, settings.defaults(), settings.shards),
            TeamStore(database),
            PriceStore(database),
        )
        credits, backends = CreditStore(database), BackendStore(database)
        return AdminDeps(
            keys=keys,
            teams=teams,
            tiers=TierStore(database),
            prices=prices,
            credits=credits,
            backends=backends,
            aliases=AliasStore(database),
            audit=AuditStore(database),
            usage=UsageReports(database),
            own_uses=own_uses,
            dead=redis.dead,
            replays=Replays(database, redis.dead),
            publisher=Publisher(
                keys=keys,
                teams=teams,
                prices=prices,
                backends=backends,
                directory=redis.directory,
                fleet=redis.registry,
            ),
            reconciler=Reconciler(credits, StoredUsage(database), redis.ledger),
            inspector=redis.inspector,
            fleet=fleet,
            door=redis.door,
            peppers=self._peppers,
            failures=Failures(
                redis.functions, settings.shards, monotonic_ms, per_min=settings.admin_failures_per_min, kind="admin:"
            ),
            secrets=settings.admin_secrets(),
            port=settings.admin_port,
            prefix=settings.api_key_prefix,
            output_tokens_max=settings.output_tokens_max,
            shadow=settings.shadow_limits,
            clock_s=time.time,
            new_id=new_call_id,
            entropy=secrets.token_bytes,
        )

    async def _end_calls(self) -> None:
        """The connections are closed; what still runs is cut and settles."""
        self.running.cut()
        await self.running.drain(FLUSH_S)

    def _late(self, call: Call) -> None:
        self.log.warning("settled_by_another", request_id=call.id)


async def _keys_loaded(directory: KeyDirectory, shards: int) -> bool:
    return all(await asyncio.gather(*(directory.is_ready(shard) for shard in range(shards))))


def _gauges(metrics: Metrics, leases: RedisLeases, fleet: Fleet) -> None:
    gauges.take(metrics, fleet.view.snapshot(), fleet.view.depths)
    metrics.running.set(leases.running)
    metrics.unsettled.set(leases.unsettled)


def _freeze_imports() -> None:
    """Full collections over the import heap were the p99 (reference: performance 3f)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
