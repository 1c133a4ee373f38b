"""kill -9 of a replica before and after each step of a call, amid twenty calls each: exactly one row for each call that
Redis had let in, none for any other, and sums that agree.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.core import keys
from gateway.dev import fake_sender
from gateway.dev.fake_ollama import FakeOllama
from gateway.state import keyspace
from tests.chaos.gate import Gate
from tests.chaos.held import CELLS, Cell, Victim
from tests.world import World, running

LONG_AGO_MS = 60_000
WAIT_S = 15.0
MANY = 10**8
CRASHES = 20 if os.environ.get("CHAOS") == "long" else 1
"""of each cell, amid twenty calls each"""


@pytest.fixture
async def world(redis_url: str, database_url: str, short_dir: Path, fake: FakeOllama) -> AsyncIterator[World]:
    async with running(World(redis_url, database_url, [fake.url], short_dir)) as one:
        yield one


@pytest.fixture
async def gate(redis_url: str) -> AsyncIterator[Gate]:
    one = Gate(redis_url)
    await one.start()
    yield one
    await one.stop()


@pytest.mark.timeout(120 * CRASHES)
async def test_a_replica_killed_before_or_after_any_step_leaves_one_row_a_call(
    world: World, gate: Gate, fake: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await world.create_key(
        credits=MANY, rate_limit_per_min=MANY, tokens_per_min=MANY, concurrency=None, monthly_token_limit=MANY
    )
    victim = Victim(world, gate, fake, key)
    monkeypatch.setattr(fake_sender, "_for_ever", victim.pause)
    cells = []
    for run in CELLS * CRASHES:
        began_s, known = time.monotonic(), set(gate.admitted)
        await victim.begin()
        known |= victim.finished.keys()
        gate.executed.clear()
        cell = await run(victim)
        held = await victim.kill()
        cell.calls = gate.admitted - known
        print(f"{run.__name__}: {len(held)} held, {len(cell.calls)} let in, {time.monotonic() - began_s:.1f} s")
        assert len(cell.calls) == cell.rows
        cells.append((run.__name__, cell))

    await _time_passes(world, key)
    await victim.one_whole_call(world.url)  # its place in the fleet ends those of the dead
    let_in = gate.admitted | victim.finished.keys()
    rows = {str(row["id"]): row for row in await world.rows(len(let_in))}
    assert rows.keys() == let_in
    for name, cell in cells:
        for call_id in cell.calls:
            _check(name, cell, rows[call_id])
    for call_id, tokens in victim.finished.items():
        row = rows[call_id]
        assert (row["prompt_tokens"], row["completion_tokens"]) == tokens
        assert (row["status"], row["estimated"]) == ("ok", False)
    await _check_sums(world, key, list(rows.values()))


def _check(name: str, cell: Cell, row: dict[str, Any]) -> None:
    for column, wanted in cell.every.items():
        low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        assert low <= row[column] <= high, (name, column, row[column])


async def _time_passes(world: World, key: str) -> None:
    """Deadlines of all that is open lie in the past, as if nobody had renewed it."""
    names = keyspace.KeyNames(keys.id_of(key) or "", world.shards)
    slots = next(name for name in keyspace.fleet() if name.endswith(":slots"))
    for name in (names.running, slots, keyspace.leases(names.shard)):
        for member in await world.redis.zrange(name, 0, -1):
            await world.redis.zincrby(name, -LONG_AGO_MS, member)


async def _check_sums(world: World, key: str, rows: list[dict[str, Any]]) -> None:
    """Rows, Postgres' sums and Redis' counters say the same, and nothing is held by anybody."""
    names = keyspace.KeyNames(keys.id_of(key) or "", world.shards)
    tokens, micro = sum(row["total_tokens"] for row in rows), sum(row["credits_micro"] for row in rows)
    (month,) = {row["month"] for row in rows}
    connection = await asyncpg.connect(world.database_url)
    try:
        monthly = await connection.fetch("SELECT * FROM usage_monthly")
        hourly = await connection.fetchrow(
            "SELECT sum(calls), sum(prompt_tokens + completion_tokens), sum(credits_micro) FROM usage_hourly"
        )
    finally:
        await connection.close()
    (one,) = monthly
    assert (one["calls"], one["prompt_tokens"] + one["completion_tokens"], one["credits_micro"]) == tuple(hourly)
    assert tuple(hourly) == (len(rows), tokens, micro)
    account = await world.redis.hgetall(names.account)
    assert (int(account[f"spent:{month}"]), int(account["charged"])) == (tokens, micro)
    assert (int(account[f"held:{month}"]), int(account["credit_held"])) == (0, 0)
    assert (await world.leases(), await world.redis.zcard(names.running)) == (0, 0)
    await _check_fleet(world)


async def _check_fleet(world: World) -> None:
    """No slot is taken, once the last call's replica has given back its own."""
    of = {name.rpartition(":")[2]: name for name in keyspace.fleet()}
    async with asyncio.timeout(WAIT_S):
        while await world.redis.zcard(of["slots"]):
            await asyncio.sleep(0.01)
    assert await world.redis.hlen(of["held"]) == 0
    assert not [taken for taken in await world.redis.hvals(of["busy"]) if int(taken)]
