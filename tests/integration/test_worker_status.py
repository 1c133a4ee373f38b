"""What a worker tells over HTTP, as a process, with its servers and without."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from gateway.settings import Settings, SettingsError
from gateway.state import keyspace
from gateway.telemetry.worker import WorkerMetrics
from tests.integration.usage_events import event, fields
from workers import lifecycle

WAIT_S = 30.0
PROGRAM = """
import sys
from gateway.settings import Settings
from workers.lifecycle import run
redis_url, migrated_url, port = sys.argv[1:]
sys.exit(run(Settings(redis_url=redis_url, database_url=migrated_url, shards=2, worker_port=int(port))))
"""
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
FAILURES = "gateway_worker_loop_failures_total"
POLL_S = 0.02
Samples = dict[tuple[str, str], float]
"""by name and the value of their label"""
Sample = tuple[tuple[str, str], float]


class Worker:
    def __init__(self, process: asyncio.subprocess.Process, url: str, http: aiohttp.ClientSession) -> None:
        self.process = process
        self._url = url
        self._http = http

    async def get(self, path: str) -> tuple[int, str]:
        async with self._http.get(self._url + path) as answer:
            return answer.status, await answer.text()

    async def samples(self) -> Samples:
        found = text_string_to_metric_families((await self.get("/metrics"))[1])
        return {(one.name, "".join(one.labels.values())): one.value for family in found for one in family.samples}

    async def until(self, *wanted: Sample) -> Samples:
        """Its figures once these are among them."""
        async with asyncio.timeout(WAIT_S):
            while True:
                with suppress(aiohttp.ClientConnectionError):  # it does not listen yet
                    samples = await self.samples()
                    if all(samples.get(place) == value for place, value in wanted):
                        return samples
                await asyncio.sleep(POLL_S)

    async def failed(self, *loops: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while not set(loops) <= {label for name, label in await self.samples() if name == FAILURES}:
                await asyncio.sleep(POLL_S)


@asynccontextmanager
async def worker(redis_url: str, migrated_url: str, log: Path) -> AsyncIterator[Worker]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with log.open("ab") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, redis_url, migrated_url, str(port), stderr=err, env=dict(os.environ)
        )
    try:
        async with aiohttp.ClientSession() as http:
            yield Worker(process, f"http://127.0.0.1:{port}", http)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_tells_what_it_has_done(redis_url: str, migrated_url: str, short_dir: Path) -> None:
    redis = Redis.from_url(redis_url)
    for number in range(20):
        await redis.xadd(keyspace.usage(0), fields(event(number % 15)))
    await redis.xadd(keyspace.usage(0), fields(event(99), prompt=b"poison"))
    await redis.xadd(keyspace.usage(1), fields(event(50)))
    async with worker(redis_url, migrated_url, short_dir / "log") as one:
        samples = await one.until(
            (("gateway_worker_rows_total", ""), 16),
            (("gateway_worker_repeated_events_total", ""), 5),
            (("gateway_worker_set_aside_events_total", ""), 1),
            (("gateway_worker_stream_events", "0"), 0),
            (("gateway_worker_dead_events", "0"), 1),
        )
        assert samples["gateway_worker_batches_total", ""] == samples["gateway_worker_batch_seconds_count", ""] == 2
        assert samples["gateway_worker_lag_seconds", "0"] == samples["gateway_worker_pending_events", "0"] == 0
        assert samples["gateway_worker_reaped_calls_total", ""] == 0
        assert {label for name, label in samples if name == "gateway_worker_stream_events"} == {"0", "1"}
        assert await one.get("/healthz") == (200, '{"status":"ok","loops":[]}')
        assert (await one.get("/admin"))[0] == 404
        one.process.terminate()
        assert await asyncio.wait_for(one.process.wait(), WAIT_S) == 0
    names = {name for name, _ in samples}
    told = {sample.name for metric in WorkerMetrics().registry.collect() for sample in metric.samples}
    assert told <= names | {name for name in told if name.endswith("_created")}
    await redis.aclose()


async def test_a_worker_without_postgres_tells_how_far_it_is_behind_and_lives(redis_url: str, short_dir: Path) -> None:
    redis = Redis.from_url(redis_url)
    added = [await redis.xadd(keyspace.usage(0), fields(event(number))) for number in range(3)]
    async with worker(redis_url, NOWHERE, short_dir / "log") as one:
        samples = await one.until(
            (("gateway_worker_stream_events", "0"), 3), (("gateway_worker_pending_events", "0"), 3)
        )
        seconds, _ = await redis.time()
        behind = samples["gateway_worker_lag_seconds", "0"]
        assert 0 < behind <= seconds + 1 - int(added[0].partition(b"-")[0]) / 1000
        await one.failed("usage-00", "hydrate")
        assert samples["gateway_worker_rows_total", ""] == 0
        assert (await one.get("/healthz"))[0] == 200  # nothing hangs: it tries
    await redis.aclose()


def test_a_port_that_is_taken_is_said_before_anything_begins(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(SettingsError, match=f"WORKER_PORT: cannot listen on 127.0.0.1 port {port}"):
            lifecycle.run(Settings(redis_url=redis_url, database_url=NOWHERE, worker_port=port))
