"""The sums that Postgres has to hold, computed from the events alone, and those that it holds."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import asyncpg

from gateway.core.usage import UsageEvent

TABLES = (
    "usage_logs",
    "usage_attempts",
    "usage_hourly",
    "usage_daily",
    "usage_monthly",
    "usage_timings",
)
BUCKETS_PER_DOUBLING = 4
OK = "ok"

Sums = dict[str, dict[tuple[Any, ...], Any]]
"""by table: what is summed over -> the sums, in the order of the columns"""

_KEYS = {"usage_hourly": 6, "usage_daily": 6, "usage_monthly": 3, "usage_timings": 4}
"""how many columns say what is summed over; the others are sums"""


def sums_of(events: Iterable[UsageEvent]) -> Sums:
    """What the rollups hold when each of these is a row; of one id the first counts."""
    first: dict[str, UsageEvent] = {}
    for event in events:
        first.setdefault(event.id, event)
    hourly: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 11)
    daily: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 11)
    monthly: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 5)
    timings: Counter[tuple[Any, ...]] = Counter()
    for event in first.values():
        detail, at = event.detail, datetime.fromtimestamp(event.at_ms / 1000, UTC)
        hour = at.replace(minute=0, second=0, microsecond=0)
        of = (event.key_id, event.team_id, detail.model, detail.backend, detail.status)
        tokens = [event.prompt_tokens, event.completion_tokens, event.credits_micro, event.team_credits_micro]
        took = [detail.response_time_ms, detail.queue_ms, detail.load_ms, detail.prompt_ms, detail.eval_ms]
        _add(hourly[(hour, *of)], [1, int(event.estimated), *tokens, *took])
        _add(daily[(at.date(), *of)], [1, int(event.estimated), *tokens, *took])
        _add(monthly[event.month, event.key_id, event.team_id], [1, *tokens])
        for what, ms in _timed(event):
            timings[hour, detail.model, what, bucket(ms)] += 1
    return {
        "usage_hourly": {key: tuple(sums) for key, sums in hourly.items()},
        "usage_daily": {key: tuple(sums) for key, sums in daily.items()},
        "usage_monthly": {key: tuple(sums) for key, sums in monthly.items()},
        "usage_timings": {key: (calls,) for key, calls in timings.items()},
    }


async def sums_in(connection: Any) -> Sums:
    """What the rollups hold."""
    tables = await dump(connection)
    return {name: {row[:keys]: row[keys:] for row in tables[name]} for name, keys in _KEYS.items()}


async def dump(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of usage, in order."""
    found = {}
    for name in TABLES:
        rows: list[asyncpg.Record] = await connection.fetch(f"SELECT * FROM {name} AS t ORDER BY t")
        found[name] = [tuple(row) for row in rows]
    return found


def bucket(ms: int) -> int:
    """As usage_bucket."""
    return 0 if ms <= 1 else math.ceil(BUCKETS_PER_DOUBLING * math.log2(ms) - 1e-9)


def _timed(event: UsageEvent) -> list[tuple[str, int]]:
    detail = event.detail
    timed = [("queue", detail.queue_ms)]
    if detail.status == OK:
        timed.append(("response", detail.response_time_ms))
    if detail.status == OK and detail.first_token_ms:
        timed.append(("first_token", detail.first_token_ms))
    return timed


def _add(sums: list[int], more: list[int]) -> None:
    for place, value in enumerate(more):
        sums[place] += value
