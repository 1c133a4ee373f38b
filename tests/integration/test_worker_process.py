"""The worker as a process: it starts without its servers, works when they come, ends on a signal, survives outages."""

import asyncio
import io
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.admin.keys import KeyStore
from gateway.admin.postgres import open_pool
from gateway.core.limits import Limits
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.valkey import EmbeddedValkey
from gateway.errors import StoreUnavailable
from gateway.settings import Settings, SettingsError
from gateway.state import keyspace
from gateway.telemetry.logs import Log
from tests.integration.admin_objects import BY, record
from tests.integration.usage_events import event, fields
from workers import lifecycle
from workers.loop import Loop
from workers.migrate import migrate

WAIT_S = 30.0
POLL_S = 0.02
PROGRAM = """
import sys
from gateway.settings import Settings
from workers.lifecycle import run
sys.exit(run(Settings(redis_url=sys.argv[1], database_url=sys.argv[2], shards=2)))
"""


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def working(redis_url: str, database_url: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("ab") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, redis_url, database_url, stderr=err, env=dict(os.environ)
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_everything_written(
    redis_url: str, database_url: str, short_dir: Path, number: signal.Signals
) -> None:
    await migrate(database_url)
    redis, postgres = Redis.from_url(redis_url), await open_pool(database_url)
    try:
        await KeyStore(postgres, Limits(), 1).create(BY, record(1), None)
        async with working(redis_url, database_url, short_dir / "log") as process:
            for shard in (0, 1):
                for n in range(100):
                    await redis.xadd(keyspace.usage(shard), fields(event(shard * 1_000 + n)))
            await eventually(lambda: drained(redis, 2))
            assert await redis.exists(keyspace.ready(0), keyspace.ready(1)) == 2
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
        async with postgres.transaction() as connection:
            assert await connection.fetchval("SELECT count(*) FROM usage_logs") == 200
            assert await connection.fetchval("SELECT count(*) FROM pg_inherits") >= 5
        events = [line["event"] for line in lines(short_dir / "log")]
        assert events[0] == "worker_started" and events[-1] == "worker_stopped"
    finally:
        await redis.aclose()
        await postgres.close()


async def drained(redis: Redis, shards: int) -> bool:
    ready = await redis.exists(*(keyspace.ready(shard) for shard in range(shards))) == shards
    return ready and not any([await redis.xlen(keyspace.usage(shard)) for shard in range(shards)])


async def test_it_starts_without_servers_and_outlives_the_loss_of_each(short_dir: Path) -> None:
    valkey, server = EmbeddedValkey(short_dir / "v"), EmbeddedPostgres(short_dir / "p", fsync=False)
    log = short_dir / "log"
    async with working(valkey.url, server.url, log) as process:
        await eventually(lambda: failed(log, {"usage-00", "usage-01", "reaper", "hydrate", "upkeep"}))
        await valkey.start()
        await server.start()
        redis, postgres = Redis.from_url(valkey.url), await open_pool(server.url)
        try:
            await migrate(server.url)
            await redis.xadd(keyspace.usage(0), fields(event(1)))
            await eventually(lambda: drained(redis, 2))
            await server.kill()
            await redis.xadd(keyspace.usage(1), fields(event(2)))
            await server.start()
            await eventually(lambda: drained(redis, 2))
            await valkey.stop()
            await valkey.start()
            await redis.flushall()
            await redis.xadd(keyspace.usage(0), fields(event(3)))
            await eventually(lambda: drained(redis, 2))
            async with postgres.transaction() as connection:
                assert await connection.fetchval("SELECT count(*) FROM usage_logs") == 3
            process.terminate()
            assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
        finally:
            await redis.aclose()
            await postgres.close()
            await server.stop()
            await valkey.stop()


async def failed(log: Path, loops: set[str]) -> bool:
    return loops <= {str(line.get("loop")) for line in lines(log) if line["event"] == "loop_failed"}


async def test_it_stops_at_once_while_its_servers_are_down(short_dir: Path) -> None:
    valkey, server = EmbeddedValkey(short_dir / "v"), EmbeddedPostgres(short_dir / "p")
    log = short_dir / "log"
    async with working(valkey.url, server.url, log) as process:
        await eventually(lambda: failed(log, {"usage-00", "hydrate"}))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0


def test_an_address_that_is_not_set_is_said() -> None:
    with pytest.raises(SettingsError) as caught:
        lifecycle.run(Settings())
    assert caught.value.problems == ["REDIS_URL is not set", "DATABASE_URL is not set"]


async def test_a_loop_outlives_every_error_and_finishes_what_it_has_begun() -> None:
    out, stop, ran = io.StringIO(), asyncio.Event(), []

    async def run_once() -> int:
        ran.append(len(ran))
        if len(ran) == 1:
            raise StoreUnavailable from ValueError("secret")
        if len(ran) == 3:
            stop.set()
            await asyncio.sleep(0)
            ran.append(99)
        return 1

    loop = Loop("l", run_once, Log(lambda: 0.0, out), chance=lambda: -1.0)  # no rest at all
    await asyncio.wait_for(loop.run(stop), 5)
    assert ran == [0, 1, 2, 99]
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line.get("error")) for line in events] == [
        ("loop_failed", "StoreUnavailable from ValueError"),
        ("loop_recovered", None),
    ]
    assert "secret" not in out.getvalue()
