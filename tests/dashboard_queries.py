"""What dashboards ask the views of the schema `dashboard`, and which tables Postgres reads for it."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import asyncpg
from msgspec import Struct

KEY, MODEL = "key7", "model7"
"""a key and a model with calls, such as somebody would look at"""
COLUMNS = """
SELECT table_name AS view, array_agg(column_name::text ORDER BY ordinal_position) AS columns
FROM information_schema.columns WHERE table_schema = 'dashboard' GROUP BY table_name ORDER BY table_name
"""
TODAY = "(now() AT TIME ZONE 'UTC')::date"
THIS_MONTH = "date_trunc('month', now(), 'UTC')"
TIMES = {
    "hour": {"24 h": "hour >= now() - interval '24 hours'", "7 d": "hour >= now() - interval '7 days'",
             "month": f"hour >= {THIS_MONTH}"},
    "day": {"24 h": f"day >= {TODAY} - 1", "7 d": f"day >= {TODAY} - 7",
            "month": f"day >= date_trunc('month', {TODAY})::date"},
    "month": {"month": f"month = date_trunc('month', {TODAY})::date"},
    "created_at": {"24 h": "created_at >= now() - interval '24 hours'"},
}  # fmt: skip
"""filters of time by the column that a view has"""
WEEK_OF_A_KEY = {"7 d": "created_at >= now() - interval '7 days'", "month": f"created_at >= {THIS_MONTH}"}
SINGLE_CALLS = ("calls", "attempts")
"""the views that read raw rows; of them people see a page at a time"""
GRAINS = {"hourly": "hour", "daily": "day"}
"""the views that are there to be grouped, and by what"""
PAGE = "ORDER BY created_at DESC LIMIT 1000"


class Query(Struct, frozen=True):
    view: str
    filter: str
    """in words"""
    text: str


async def queries(connection: asyncpg.Connection) -> list[Query]:
    """Every view with every usual filter that it has the columns for."""
    views = await connection.fetch(COLUMNS)
    return [query for row in views for query in _queries(row["view"], set(row["columns"]))]


def _queries(view: str, columns: set[str]) -> Iterator[Query]:
    times = next((TIMES[name] for name in TIMES if name in columns), {"all": "true"})
    owners = {"": "true"}
    if "api_key_id" in columns:
        owners["one key"] = f"api_key_id = '{KEY}'"
    if "model" in columns:
        owners["one model"] = f"model = '{MODEL}'"
    pairs = list(product(times.items(), owners.items()))
    if view == "calls":
        pairs += product(WEEK_OF_A_KEY.items(), list(owners.items())[1:2])
    for (when, time), (whose, owner) in pairs:
        yield Query(view, f"{when} {whose}".strip(), _text(view, f"{time} AND {owner}"))


def _text(view: str, where: str) -> str:
    if view in GRAINS:
        by = f"{GRAINS[view]}, model, status"
        return f"SELECT {by}, sum(calls), sum(total_tokens) FROM dashboard.{view} WHERE {where} GROUP BY {by}"
    return f"SELECT * FROM dashboard.{view} WHERE {where} {PAGE if view in SINGLE_CALLS else ''}"


class Scan(Struct, frozen=True):
    """One relation that a plan reads, and how: `Seq Scan`, `Index Scan`, `Bitmap Heap Scan` …"""

    relation: str
    how: str

    @property
    def raw(self) -> bool:
        """of rows, not of sums"""
        return self.relation.startswith(("usage_logs", "usage_attempts"))

    @property
    def whole(self) -> bool:
        """a month is read from end to end; the default partition is empty or nearly so"""
        return self.how == "Seq Scan" and not self.relation.endswith("_default")


async def scans(connection: asyncpg.Connection, text: str) -> set[Scan]:
    """What Postgres would read, after partitions that the filter rules out are left out."""
    return scans_of(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {text}"))


def scans_of(explained: str) -> set[Scan]:
    """What a plan in JSON reads."""
    return set(_scans(json.loads(explained)[0]["Plan"]))


def _scans(node: dict[str, Any]) -> Iterator[Scan]:
    if "Relation Name" in node:
        yield Scan(node["Relation Name"], node["Node Type"])
    for part in node.get("Plans", []):
        yield from _scans(part)


def unwanted(query: Query, scan: Scan) -> bool:
    """A month of raw rows read whole, or any read at all by a view that has sums to read."""
    return scan.raw and (query.view not in SINGLE_CALLS or scan.whole)
