"""The composition root: the only module that constructs adapters, but for those of the admin API alone, which
`administration.py` does. Nothing here decides anything about a call.
"""

import asyncio
import gc
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

from litestar import Litestar

from gateway.admin.postgres import open_pool
from gateway.admin.usage import UsageReports
from gateway.administration import Administration, UsedOfRedis
from gateway.backends import fleet_settings
from gateway.backends.fleet import Fleet
from gateway.backends.library import Library
from gateway.backends.pool import Pool
from gateway.core import ids
from gateway.core.addresses import Proxies
from gateway.core.call import Call
from gateway.core.keys import Peppers
from gateway.deadline import Deadline
from gateway.dialects.policy import Policy
from gateway.gate import Gate
from gateway.loops import Loops
from gateway.pipeline import Pipeline
from gateway.pulse import Pulse
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
from gateway.state.timed import TimedCalls
from gateway.state.wakes import Wakes
from gateway.telemetry import gauges, tracing
from gateway.telemetry.fleet import BackendObserver
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import CallObserver
from gateway.telemetry.seldom import Seldom
from gateway.telemetry.tracing import Tracing
from gateway.web.body import Intake
from gateway.web.calls import CallDeps
from gateway.web.credentials import Door
from gateway.web.own_use import OWN_USE_S_MAX, OwnUses
from gateway.web.public import PublicDeps
from gateway.web.pulling import PullDeps
from gateway.web.router import application

FLUSH_S = 5.0
"""how long a stopping replica goes on trying to end and settle its calls, and to send what it has to say"""
STEP_S_MIN = 0.5
"""what each step of that has, however long those before it took"""
END_S_MAX = FLUSH_S + 3 * STEP_S_MIN
OWN_USE_CONNECTIONS_MAX = 2
"""to Postgres, for keys that ask what they have used: they cannot take the operator's away"""


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def new_call_id() -> str:
    return ids.uuid7(time.time_ns() // 1_000_000, os.urandom(ids.ENTROPY_BYTES))


class Replica:
    """One replica: its Litestar app, and how it stops. Opens nothing before the app's lifespan begins."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
        """`environ`: whether it has OpenTelemetry's variables. Raises `SettingsError` when those cannot be followed."""
        self._settings = settings
        self.log = Log(time.time, debug=settings.debug)
        self.pulse = Pulse(self.log)
        self.seldom = Seldom(self.log, time.monotonic)
        self._version = version("llm-gateway")
        self._tracing = tracing.chosen(environ or {}, self.log, self._version)
        self.running = Running()
        self.gate = Gate()
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
        deadline = Deadline(FLUSH_S, time.monotonic, least_s=STEP_S_MIN)
        async with AsyncExitStack() as stack:
            pipe = pipe_to(settings.redis_url, settings.redis_timeout_ms)
            pipe.start()
            stack.push_async_callback(pipe.close)
            metrics = Metrics(self._version)
            redis = TimedCalls(pipe, metrics.stores, patience_s=settings.redis_timeout_ms / 2_000)
            functions = Functions(redis, refused=self._redis_refused)
            failures = Failures(functions, settings.shards, monotonic_ms, per_min=settings.key_failures_per_min)
            budget = settings.usage_stream_bytes_max
            limiter = RedisLimiter(functions, settings.shards, shadow=settings.shadow_limits, stream_bytes_max=budget)
            inspector = RedisInspector(functions, settings.shards, failures, stream_bytes_max=budget)
            directory = KeyDirectory(redis, functions, settings.shards)
            leases = RedisLeases(limiter, failures, monotonic_ms, self._late, decision_ms=settings.redis_timeout_ms)
            door = Door(self._peppers, self._proxies, failures, self._settings.key_pepper.encode())

            registry = Functions(redis, fleet_source(), self._redis_refused)
            name = secrets.token_hex(8)
            fleet = self._fleet(RedisPlacement(registry, name), metrics)
            stack.push_async_callback(lambda: fleet.end(deadline.left_s()))
            await fleet.begin()
            wakes = Wakes(settings.redis_url, name, fleet.line.woken)

            database = await open_pool(settings.database_url, metrics=metrics.stores)
            stack.push_async_callback(database.close)
            for_keys = await open_pool(
                settings.database_url,
                connections_max=OWN_USE_CONNECTIONS_MAX,
                statement_s_max=OWN_USE_S_MAX,
                metrics=metrics.stores,
            )
            stack.push_async_callback(for_keys.close)
            own_uses = OwnUses(UsageReports(for_keys))
            spans = self._tracing()
            stack.push_async_callback(lambda: spans.end(deadline.left_s()))
            has_model = fleet.view.has_model
            observer = CallObserver(metrics, self.log, spans, has_model=has_model, clock_ms=monotonic_ms)
            app.state.openapi = []
            pipeline = Pipeline(leases, fleet.pool, monotonic_ms, observer, self.gate)
            app.state.calls = self._calls(pipeline, fleet.pool, observer, spans, door)
            ledger = RedisLedger(redis, settings.shards)
            dead = DeadEvents(redis, functions, settings.shards)
            used = UsedOfRedis(functions, directory, RegistryDirectory(registry), inspector, ledger, dead, door)
            administration = Administration(settings, self._peppers, monotonic_ms, new_call_id)
            app.state.admin = administration.of(database, used, fleet.pool, own_uses)
            app.state.pull = self._pull(fleet.library, fleet.pool)
            app.state.public = PublicDeps(
                inspector=inspector,
                own_uses=own_uses,
                door=door,
                fleet=fleet.pool,
                library=fleet.library,
                intake=app.state.calls.intake,
                metrics=metrics,
                gauges=partial(_gauges, metrics, leases, fleet, observer, self.pulse, self.gate),
                snapshot=fleet.view.snapshot,
                draining=lambda: self.draining,
                keys_loaded=partial(_keys_loaded, directory, settings.shards),
                database=app.state.admin.keys.now_us,
                version=self._version,
            )
            async with Loops(self.log).running(leases.run, wakes.run, *fleet.loops):
                _freeze_imports()
                yield
                await self._end_calls(deadline.left_s())
            await leases.flush(deadline.left_s())
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

    def _calls(self, pipeline: Pipeline, fleet: Pool, observer: CallObserver, spans: Tracing, door: Door) -> CallDeps:
        return CallDeps(
            pipeline=pipeline,
            gate=self.gate,
            fleet=fleet,
            running=self.running,
            door=door,
            clock_ms=monotonic_ms,
            clock_s=time.time,
            new_id=new_call_id,
            observer=observer,
            trace=spans.begin,
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

    async def _end_calls(self, seconds: float) -> None:
        """The connections are closed; what still runs is cut and settles."""
        self.running.cut()
        await self.running.drain(seconds)

    def _redis_refused(self, why: str, advice: str) -> None:
        self.seldom.warning("redis_refused", why, advice=advice)

    def _late(self, call: Call) -> None:
        self.log.warning("settled_by_another", request_id=call.id)


async def _keys_loaded(directory: KeyDirectory, shards: int) -> bool:
    return all(await asyncio.gather(*(directory.is_ready(shard) for shard in range(shards))))


def _gauges(
    metrics: Metrics, leases: RedisLeases, fleet: Fleet, observer: CallObserver, pulse: Pulse, gate: Gate
) -> None:
    gauges.take(metrics, fleet.view.snapshot(), fleet.view.depths)
    metrics.running.set(leases.running)
    metrics.unread.set(gate.unread)
    metrics.unsettled.set(leases.unsettled)
    metrics.loop_lag.set(pulse.largest_lag_s())
    observer.lines.catch_up()


def _freeze_imports() -> None:
    """Full collections over the import heap were the p99 (reference: performance 3f)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
