"""`make bench-sql`: how fast usage rows are inserted, and how long each view of the dashboards takes at ROWS rows.

On an embedded Postgres of its own that writes to disk as in earnest, in a directory that is removed afterwards. The
first rows go in by the worker's own statement, in batches of its size, and are timed; the rest is made by Postgres.
"""

import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import asyncpg

from gateway.admin.postgres import open_pool
from gateway.core.usage import Detail, UsageEvent
from gateway.dev.postgres import EmbeddedPostgres
from tests.dashboard_queries import Query, queries, scans, unwanted
from workers.batch import ROWS_MAX
from workers.migrate import migrate
from workers.store import UsageStore

ROWS = 5_000_000
TIMED_ROWS = 60_000
"""for each number of connections"""
CONNECTIONS = (1, 2)
RUNS = 3
VIEW_MS_MAX = 500
FILL_S_MAX = 900.0
FILL_ROWS = 500_000
"""in one statement"""
KEYS, MODELS, BACKENDS = 200, 12, 6
CAREFUL = "ALTER SYSTEM SET max_wal_size = '4GB'"
FILL = """
-- In the order of time, as calls come, up to now.
INSERT INTO usage_logs (id, api_key_id, model, prompt_tokens, completion_tokens, endpoint, response_time_ms, created_at,
    month, credits_micro, estimated, status, http_status, backend, streamed, finish_reason, first_token_ms, load_ms,
    prompt_ms, eval_ms, end_user, team_id, team_credits_micro, dialect, queue_ms, address_hash)
SELECT gen_random_uuid(), 'key' || who, 'model' || what, 40 + 3000 * random() ^ 3, 900 * random(),
    '/v1/chat/completions', 50 + 20000 * random() ^ 4, at, to_char(at AT TIME ZONE 'UTC', 'YYYYMM'), 1000000,
    random() < 0.02, CASE WHEN random() < 0.96 THEN 'ok' ELSE 'backend_timeout' END, 200,
    'node-' || (what + (random() < 0.3)::integer) % $4::integer, random() < 0.7, 'stop', 20 + 900 * random() ^ 3, 0,
    10 + 300 * random(), 30 + 9000 * random() ^ 3, '', 'team' || who % 20, 0, 'openai',
    CASE WHEN random() < 0.1 THEN 3000 * random() ^ 3 ELSE 0 END, '0af3c2d1'
FROM (
    SELECT who, (who + (random() < 0.2)::integer) % $3::integer AS what,
           now() - (1 - number / $5::double precision) * (now() - since) AS at
    FROM date_trunc('month', now() - interval '2 months', 'UTC') AS since,
         (SELECT number, floor($2::integer * random() ^ 3)::integer AS who
          FROM generate_series($1::integer, $1::integer + $6::integer - 1) AS number) AS caller
) AS call
"""
HOLDERS = """
WITH team AS (
    INSERT INTO teams (id, label, limits, metered, credits_granted_micro)
    SELECT 'team' || n, 'team ' || n, '{"monthly_token_limit": 500000000}', true, 10 ^ 12
    FROM generate_series(0, 19) AS n
)
INSERT INTO api_keys (id, label, limits, metered, credits_granted_micro)
SELECT 'key' || n, 'key ' || n, '{"monthly_token_limit": 5000000}', true, 10 ^ 10 FROM generate_series(0, $1 - 1) AS n
"""
"""those that calls are of, some of them near their limits"""
TRIES = """
INSERT INTO usage_attempts SELECT id, created_at, 1, 'node-0', 'backend_refused', 0, 5 FROM usage_logs
WHERE response_time_ms % $1::integer = 0
"""


def event(rng: random.Random, at_ms: int) -> UsageEvent:
    """As FILL makes them, roughly."""
    who = int(KEYS * rng.random() ** 3)
    model = (who + (rng.random() < 0.2)) % MODELS
    return UsageEvent(
        id=str(UUID(int=rng.getrandbits(128))),
        key_id=f"key{who}",
        at_ms=at_ms,
        month=time.strftime("%Y%m", time.gmtime(at_ms / 1000)),
        prompt_tokens=rng.randrange(3_000),
        completion_tokens=rng.randrange(900),
        credits_micro=1_000_000,
        estimated=False,
        team_id=f"team{who % 20}",
        detail=Detail(
            model=f"model{model}",
            endpoint="/v1/chat/completions",
            backend=f"node-{(model + (rng.random() < 0.3)) % BACKENDS}",
            response_time_ms=int(50 + 20_000 * rng.random() ** 4),
            first_token_ms=int(20 + 900 * rng.random() ** 3),
            queue_ms=int(3_000 * rng.random() ** 3) if rng.random() < 0.1 else 0,
            eval_ms=rng.randrange(9_000),
            dialect="openai",
            address_hash="0af3c2d1",
        ),
    )


async def main(rows: int) -> int:
    """0; 1 when a view reads raw rows that it need not. How fast it is depends on the machine, and is only said."""
    async with database() as url:
        await migrate(url)
        connection = await asyncpg.connect(url, command_timeout=FILL_S_MAX)
        await connection.execute(
            "SELECT make_usage_partition((date_trunc('month', now(), 'UTC') - ago * interval '1 month')::date)"
            " FROM generate_series(0, 2) AS ago"
        )
        await fill(connection, max(0, rows - TIMED_ROWS * len(CONNECTIONS)))
        for count in CONNECTIONS:
            say("rows inserted a second", f"{count} connection(s)", round(await rows_per_s(url, count)))
        await connection.execute("VACUUM ANALYZE")
        await sizes(connection)
        bad = [query for query in await queries(connection) if not await well(connection, query)]
        await connection.close()
    return 1 if bad else 0


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))  # short enough for a socket
    postgres = EmbeddedPostgres(directory, fsync=True)
    try:
        await postgres.start()
        connection = await asyncpg.connect(postgres.url)
        await connection.execute(CAREFUL)
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        yield postgres.url
    finally:
        await postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def fill(connection: asyncpg.Connection, rows: int) -> None:
    await connection.execute(HOLDERS, KEYS)
    began = time.perf_counter()
    for start in range(0, rows, FILL_ROWS):
        await connection.execute(FILL, start, KEYS, MODELS, BACKENDS, rows, min(FILL_ROWS, rows - start))
    await connection.execute(TRIES, 50)
    say("seconds to fill", f"{rows} rows", round(time.perf_counter() - began, 1))
    for row in await connection.fetch("SELECT DISTINCT month FROM usage_logs"):
        began = time.perf_counter()
        found = await connection.fetchval("SELECT rebuild_usage_rollups($1)", row["month"])
        say("seconds to make sums", f"{row['month']}, {found} rows", round(time.perf_counter() - began, 1))
    await connection.execute("ANALYZE")


async def rows_per_s(url: str, connections: int) -> float:
    """Through the worker's statement, in batches of its size, from as many tasks as connections."""
    rng, at_ms = random.Random(connections), int(time.time() * 1000)
    postgres = await open_pool(url, connections_max=connections)
    batches = [[event(rng, at_ms + one) for one in range(ROWS_MAX)] for _ in range(TIMED_ROWS // ROWS_MAX)]
    store = UsageStore(postgres)

    async def work() -> int:
        return sum([(await store.insert(batches.pop())).rows for _ in range(TIMED_ROWS // ROWS_MAX // connections)])

    began = time.perf_counter()
    rows = sum(await asyncio.gather(*(work() for _ in range(connections))))
    took_s = time.perf_counter() - began
    await postgres.close()
    return rows / took_s


async def sizes(connection: asyncpg.Connection) -> None:
    for table in ("usage_logs", "usage_hourly", "usage_daily", "usage_monthly", "usage_timings"):
        say("rows", table, await connection.fetchval(f"SELECT count(*) FROM {table}"))
        size = "SELECT sum(pg_total_relation_size(relid)) / 1048576 FROM pg_partition_tree($1::regclass)"
        size_table = "SELECT pg_total_relation_size($1::regclass) / 1048576.0"
        parts = await connection.fetchval(size, table)
        say("MiB", table, round(parts or await connection.fetchval(size_table, table)))


async def well(connection: asyncpg.Connection, query: Query) -> bool:
    """Whether it reads no more raw rows than it has to; prints how long it took."""
    took_ms = []
    for _ in range(RUNS):
        began = time.perf_counter()
        found = await connection.fetch(query.text)
        took_ms.append((time.perf_counter() - began) * 1000)
    faults = sorted(
        f"{one.how} of {one.relation}" for one in await scans(connection, query.text) if unwanted(query, one)
    )
    slow = ["slow"] if median(took_ms) > VIEW_MS_MAX else []
    say("ms", f"{query.view}: {query.filter}", round(median(took_ms), 1), f"{len(found)} rows", *slow, *faults)
    return not faults


def say(what: str, which: str, figure: Any, *more: str) -> None:
    sys.stdout.write(f"{what:<24} {which:<44} {figure:>12}  {'; '.join(more)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(os.environ.get("ROWS", ROWS)))))
