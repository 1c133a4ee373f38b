"""Postgres is down for as long as ten minutes' calls take, and only the operator notices: no client sees an error, no
event is lost, the worker stays small, catches up, and the ledgers agree.

The traffic is what two hundred calls a second make of the real functions in the real stream, as fast as Redis takes it.
"""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.core import keys
from gateway.core.call import Bill
from gateway.core.limits import Estimate
from gateway.core.usage import Detail, detail_json
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.valkey import EmbeddedValkey
from gateway.state import keyspace
from gateway.state.functions import Functions
from gateway.state.limiter import RedisLimiter
from tests.fakes import call, credential_of
from tests.integration.hammer import ID_OF_NOBODY, NUMBERS_OF_NOBODY, Prepared, Wire, packed
from tests.integration.prepared import Listener
from tests.world import World, bearer, chat, running

CALLS_PER_S, OUTAGE_S = 200, 600
EVENTS = CALLS_PER_S * OUTAGE_S
KEYS = 8
BATCH = 50
"""calls that Redis is given at once: while it works on them, a client waits"""
REDIS_PATIENCE_MS = "10000"
"""of the replica: the traffic of minutes in seconds leaves little of a small machine"""
CLIENTS = 2
ANSWER_MS = 50
"""so long the node thinks: what paces the clients"""
GROWTH_MIB_MAX = 50
CATCH_UP_S_MAX = 240
"""reliability F22"""
SECONDS_MAX = 600
POLL_S = 0.05
MANY = 10**8
DETAIL = Detail(
    model="llama3.2:3b",
    endpoint="/v1/chat/completions",
    backend="node",
    streamed=True,
    finish_reason="stop",
    response_time_ms=1_234,
    first_token_ms=123,
    queue_ms=12,
    load_ms=1,
    prompt_ms=45,
    eval_ms=999,
    end_user="somebody",
    dialect="openai",
    address_hash="0123456789abcdef",
)


async def commands_of(key: str) -> tuple[Prepared, Prepared]:
    """How a replica lets a call of this key in, and how it settles it; prompt and completion are left open."""
    prompt, completion = NUMBERS_OF_NOBODY
    one = call(id=ID_OF_NOBODY, credential=credential_of(key), estimate=Estimate(2_000, prompt, 2_000))
    bill = Bill(
        prompt_tokens=prompt, completion_tokens=completion, paid=True, estimated=False, whole=True, detail=DETAIL
    )
    admitting, settling = Listener(""), Listener("")
    await RedisLimiter(Functions(admitting), 1).admit(one, "", detail_json(DETAIL))
    await RedisLimiter(Functions(settling), 1).settle(one, bill)
    return Prepared(packed(*admitting.heard)), Prepared(packed(*settling.heard))


def traffic(url: str, seed: int, each: list[tuple[Prepared, Prepared]], events: int) -> int:
    """Calls of all keys in turn, admitted and settled in bulk. How many were both."""
    wire, done = Wire(url), 0
    for start in range(0, events, BATCH):
        commands = []
        for number in range(start, min(start + BATCH, events)):
            call_id = f"019a0000-0000-7000-8000-{seed:04x}{number:08x}"
            admit, settle = each[number % len(each)]
            commands += [admit.of(call_id, 10), settle.of(call_id, number % 1_000, number % 77)]
        replies = wire.ask(commands, len(commands))
        done += sum(reply[0] == 1 for reply in replies) // 2
        assert done == min(start + BATCH, events), replies[:2]
    wire.close()
    return done


class Clients:
    """Call the replica one after the other until told to stop, and count what they get."""

    def __init__(self, world: World, key: str) -> None:
        self._world, self._key = world, key
        self._enough = asyncio.Event()
        self._calling: list[asyncio.Task[None]] = []
        self.statuses: Counter[int] = Counter()

    def start(self) -> None:
        self._calling = [asyncio.create_task(self._call()) for _ in range(CLIENTS)]

    async def stop(self) -> None:
        self._enough.set()
        await asyncio.gather(*self._calling)

    async def _call(self) -> None:
        while not self._enough.is_set():
            url = f"{self._world.url}/v1/chat/completions"
            reply = await self._world.http.post(url, headers=bearer(self._key), json=chat())
            self.statuses[reply.status_code] += 1


@asynccontextmanager
async def own_servers(
    directory: Path, node: FakeOllama
) -> AsyncIterator[tuple[World, EmbeddedValkey, EmbeddedPostgres]]:
    valkey, postgres = EmbeddedValkey(directory / "v"), EmbeddedPostgres(directory / "p", fsync=False)
    await asyncio.gather(valkey.start(), postgres.start())
    try:
        async with running(
            World(valkey.url, postgres.url, [node.url], directory, REDIS_TIMEOUT_MS=REDIS_PATIENCE_MS)
        ) as world:
            yield world, valkey, postgres
    finally:
        await asyncio.gather(valkey.stop(), postgres.stop())


async def in_a_process(*work: Any) -> Any:
    """What `work` returns, whose first is a function and the others its arguments."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return await asyncio.to_thread(process.apply, work[0], work[1:])


@pytest.mark.timeout(SECONDS_MAX)
async def test_ten_minutes_of_calls_without_postgres_cost_no_client_and_no_event(
    short_dir: Path, fake: FakeOllama
) -> None:
    async with own_servers(short_dir, fake) as (world, valkey, postgres):
        fields: dict[str, Any] = {"rate_limit_per_min": MANY, "tokens_per_min": MANY, "credits": MANY}
        owners = [await world.create_key(**fields, monthly_token_limit=10**11) for _ in range(KEYS)]
        mine = await world.create_key(**fields)
        each = [await commands_of(key) for key in owners]
        warm = await in_a_process(traffic, valkey.url, 1, each, BATCH)
        fake.behaviour = Behaviour(first_byte_ms=ANSWER_MS)
        clients = Clients(world, mine)
        clients.start()
        await _empty(world)
        (worker,) = world.workers
        before_mib = _mib(worker.pid, "VmRSS")

        await postgres.kill()
        began_s = time.monotonic()
        assert await in_a_process(traffic, valkey.url, 2, each, EVENTS) == EVENTS
        down_s, waiting = time.monotonic() - began_s, await world.redis.xlen(keyspace.usage(0))
        stream_mib = await world.redis.memory_usage(keyspace.usage(0), samples=0) / 2**20
        assert waiting >= EVENTS
        served_meanwhile = clients.statuses.total()

        await postgres.start()
        began_s = time.monotonic()
        await _empty(world)
        caught_up_s = time.monotonic() - began_s
        await clients.stop()
        await _empty(world)
        grown_mib = _mib(worker.pid, "VmHWM") - before_mib
        print(
            f"\n{EVENTS:,} events in {down_s:.0f} s without Postgres, {stream_mib:.0f} MiB of stream, "
            f"{served_meanwhile} calls of clients meanwhile; caught up with {waiting:,} in {caught_up_s:.1f} s, "
            f"{waiting / caught_up_s:,.0f} a second, {waiting / caught_up_s / CALLS_PER_S:.0f} times the rate of the "
            f"traffic; the worker's memory {before_mib:.0f} MiB, at most {grown_mib:+.0f} MiB"
        )
        assert clients.statuses.keys() == {200}
        assert served_meanwhile > 0
        assert grown_mib <= GROWTH_MIB_MAX
        assert caught_up_s <= CATCH_UP_S_MAX
        await _check(world, [*owners, mine], warm + EVENTS + clients.statuses[200])


async def _check(world: World, owners: list[str], calls: int) -> None:
    """As many rows as calls, none twice, and every key's counter in Redis what its rows and its sums are."""
    connection = await asyncpg.connect(world.database_url)
    try:
        rows = await connection.fetch(
            "SELECT api_key_id, month, count(*), count(DISTINCT id), sum(total_tokens), sum(credits_micro) "
            "FROM usage_logs GROUP BY 1, 2"
        )
        monthly = await connection.fetch(
            "SELECT api_key_id, month, calls, calls, prompt_tokens + completion_tokens, credits_micro "
            "FROM usage_monthly"
        )
        hourly = await connection.fetchval("SELECT sum(calls) FROM usage_hourly")
    finally:
        await connection.close()
    assert sum(row["count"] for row in rows) == hourly == calls
    assert {tuple(row) for row in rows} == {tuple(row) for row in monthly}
    assert {row["api_key_id"] for row in rows} == {keys.id_of(key) for key in owners}
    for row in rows:
        account = await world.redis.hgetall(keyspace.KeyNames(row["api_key_id"], world.shards).account)
        assert (int(account[f"spent:{row['month']}"]), int(account["charged"])) == tuple(row[4:])
        assert (int(account[f"held:{row['month']}"]), int(account["credit_held"])) == (0, 0)
    report = (await world.admin("GET", "/admin/reconcile")).json()
    assert (report["agrees"], report["complete"]) == (True, True), report


async def _empty(world: World) -> None:
    """Until every event is a row."""
    async with asyncio.timeout(CATCH_UP_S_MAX):
        while await world.redis.xlen(keyspace.usage(0)):
            await asyncio.sleep(POLL_S)


def _mib(pid: int, what: str) -> float:
    """VmRSS: the memory that a process has now; VmHWM: the most it ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024
