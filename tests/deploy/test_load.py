"""Clients go on calling over HTTPS while the stack is scaled, restarted and broken."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.deploy.crowd import Crowd
from tests.deploy.stack import Stack

CLIENTS = 5
KEYS = 4
PAUSE_S = 0.1
LOAD_S_MIN = 60.0
CALLS_IN_BETWEEN = 60
SETTLED_S = 20.0
ROLL_WAIT_S = 240.0


async def test_scaling_and_rolling_restarts_fail_no_call_and_every_call_is_accounted_for(
    stack: Stack, seed: str
) -> None:
    stack.up()
    stack.until_well("gateway", 3)
    keys = [str(stack.new_key(f"load {number}")["key"]) for number in range(KEYS)]
    crowd = Crowd(stack.url, keys, stack.trust(), seed, pause_s=PAUSE_S)
    began_s = time.monotonic()
    try:
        async with crowd.calling(CLIENTS):
            await _break_things(stack, crowd, began_s)
    finally:
        print(f"\n{time.monotonic() - began_s:.0f} s of load by {CLIENTS} clients over HTTPS\n{crowd.figures()}")
    assert crowd.failures("quiet", "scale 3 to 5", "scale 5 to 2", "rolling restart", "afterwards") == []
    assert [one.failure for one in crowd.outcomes if one.failure.startswith("401")] == [], "an outage is no 401"
    _reconciles(stack, crowd)


async def _break_things(stack: Stack, crowd: Crowd, began_s: float) -> None:
    await crowd.until(CALLS_IN_BETWEEN, SETTLED_S)
    for phase, act in (
        ("scale 3 to 5", lambda: _scale(stack, 5)),
        ("scale 5 to 2", lambda: _scale(stack, 2)),
        ("rolling restart", lambda: _roll(stack)),
        ("kill -9 of one", lambda: _kill(stack)),
        ("worker restarts", lambda: _restart(stack, "worker")),
        ("redis restarts", lambda: _restart(stack, "redis")),
        ("postgres restarts", lambda: _restart(stack, "postgres")),
    ):
        await _during(crowd, phase, act)
    crowd.phase = "afterwards"
    await crowd.until(CALLS_IN_BETWEEN, SETTLED_S)
    while time.monotonic() - began_s < LOAD_S_MIN:
        await crowd.until(CALLS_IN_BETWEEN, 1)


async def _during(crowd: Crowd, phase: str, act: Callable[[], Any]) -> None:
    crowd.phase, began_s = phase, time.monotonic()
    await asyncio.to_thread(act)
    await crowd.until(CALLS_IN_BETWEEN, SETTLED_S)
    print(f"{phase}: {time.monotonic() - began_s:.1f} s", flush=True)


def _scale(stack: Stack, replicas: int) -> None:
    stack.up(replicas)
    stack.until_well("gateway", replicas)


def _roll(stack: Stack) -> None:
    before = {one["Id"] for one in stack.containers("gateway")}
    stack.script("rolling-restart", wait_s=ROLL_WAIT_S)
    stack.until_well("gateway", len(before))
    assert not before & {one["Id"] for one in stack.containers("gateway")}, "a replica was not replaced"


def _kill(stack: Stack) -> None:
    victim = stack.containers("gateway")[0]
    stack.kill(victim)
    stack.until_restarted(victim)
    stack.until_well("gateway", 2)


def _restart(stack: Stack, service: str) -> None:
    stack.compose("restart", "--timeout", "10", service)
    stack.until_well(service, 1)
    stack.until_well("gateway", 2)


def _reconciles(stack: Stack, crowd: Crowd) -> None:
    """One row for every call that ended well, and none beside those of calls that were let in."""
    stack.until_stored()
    said = stack.gateway("reconcile", check=False)
    print(said)
    assert said.status == 0, f"{said}\n{said.errors}"
    rows = stack.sql("SELECT u.id FROM usage_logs u JOIN api_keys k ON k.id = u.api_key_id WHERE k.label LIKE 'load %'")
    ended_well = [one.request_id for one in crowd.outcomes if not one.failure]
    ended_badly = len(crowd.outcomes) - len(ended_well)
    print(f"rows: {len(rows)}; calls that ended well: {len(ended_well)}, badly: {ended_badly}")
    assert len(rows) == len(set(rows))
    assert set(ended_well) <= set(rows), "a call that ended well has no row"
    assert len(rows) <= len(ended_well) + ended_badly
