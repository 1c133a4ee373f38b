"""What a worker says of itself: whether its loops turn, and its metrics."""

import asyncio
import io
import json
from collections.abc import MutableMapping
from typing import Any

from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from workers.loop import RUN_S_MAX, Loop
from workers.status import Status

LOG = Log(lambda: 0.0, io.StringIO())


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


async def ask(app: Status, path: str, method: str = "GET") -> tuple[int, bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path}, None, send)
    start, body = sent
    assert dict(start["headers"])[b"content-length"].isdigit()
    return start["status"], body["body"]


async def nothing() -> int:
    return 0


async def test_a_worker_is_well_until_a_run_of_a_loop_takes_too_long() -> None:
    clock = Clock()
    slow = Loop("slow", nothing, LOG, rest_s=3_600, clock_s=clock)
    late = Loop("late", nothing, LOG, first_s=60, clock_s=clock)
    app = Status([slow, late], WorkerMetrics())
    assert await ask(app, "/healthz") == (200, b'{"status":"ok","loops":[]}')
    clock.now_s += RUN_S_MAX
    assert (await ask(app, "/healthz"))[0] == 200
    clock.now_s += 1
    assert await ask(app, "/healthz") == (503, b'{"status":"hangs","loops":["slow"]}')
    clock.now_s += 60
    assert json.loads((await ask(app, "/healthz"))[1])["loops"] == ["slow", "late"]


async def test_a_loop_that_rests_or_fails_does_not_hang() -> None:
    clock, stop, metrics = Clock(), asyncio.Event(), WorkerMetrics()
    ran = asyncio.Event()

    async def fail() -> int:
        ran.set()
        raise ValueError

    loop = Loop("l", fail, LOG, metrics=metrics, chance=lambda: 1.0, clock_s=clock)
    task = asyncio.create_task(loop.run(stop))
    await ran.wait()
    clock.now_s += RUN_S_MAX  # less than since the rest of its first failure
    assert not loop.hangs
    assert metrics.registry.get_sample_value("gateway_worker_loop_failures_total", {"loop": "l"}) == 1
    stop.set()
    await task


async def test_a_loop_may_begin_later_and_ends_at_once_all_the_same() -> None:
    stop, ran = asyncio.Event(), []

    async def run_once() -> int:
        ran.append(1)
        return 1

    task = asyncio.create_task(Loop("l", run_once, LOG, first_s=3_600).run(stop))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(task, 5)
    assert ran == []


async def test_nothing_but_metrics_and_health_is_answered() -> None:
    app = Status([], WorkerMetrics())
    status, body = await ask(app, "/metrics")
    assert status == 200 and b"# HELP gateway_worker_rows_total " in body
    assert await ask(app, "/healthz", "HEAD") == (200, b"")
    assert (await ask(app, "/admin/usage"))[0] == 404
    assert (await ask(app, "/metrics", "POST"))[0] == 405


def test_differences_that_are_gone_are_none() -> None:
    metrics = WorkerMetrics()

    def value(what: str) -> float | None:
        return metrics.registry.get_sample_value("gateway_reconcile_differences", {"what": what})

    def at() -> float | None:
        return metrics.registry.get_sample_value("gateway_reconcile_last_success_seconds")

    metrics.compared({"charged": 2, "rows": 1}, 5.0)
    assert (value("charged"), value("rows"), at()) == (2, 1, 5.0)
    metrics.compared({"charged": 1}, None)
    assert (value("charged"), value("rows"), at()) == (1, 1, 5.0), "half a look says nothing of what it did not find"
    metrics.compared({"charged": 1}, 6.0)
    assert (value("charged"), value("rows"), value("tokens"), at()) == (1, 0, 0, 6.0)
    metrics.not_compared()
    assert (value("charged"), at()) == (None, 6.0)
