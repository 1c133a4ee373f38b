"""What Grafana's panels ask Postgres, asked as Grafana does it and as whom it does it: a reader of the views."""

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.admin.postgres import open_pool
from gateway.dev.engines import Server
from tests.conftest import administer
from tests.database_users import READER, connected, user_in
from tests.grafana import ALL, DASHBOARDS, Panel, Range, columns_named, panels, sent, variables
from tests.integration.usage_crowd import KEYS, MODELS, TEAMS, calls, inserted, settled
from workers.migrate import migrate

CALLS = 500
SHOWN = Range.last(90)
VIEWS = "SELECT viewname FROM pg_views WHERE schemaname = 'dashboard'"
USED_UP = """
UPDATE api_keys SET limits = '{"monthly_token_limit": 1}', enabled = true, revoked_at = NULL
WHERE id = (SELECT api_key_id FROM dashboard.top_keys WHERE label <> '' ORDER BY place LIMIT 1)
"""
NUMBERS = (int, float, Decimal)
EVIL = "o'brien'); DROP TABLE usage_logs; --"
CHOICES: dict[str, dict[str, list[str] | None]] = {
    "all": {"api_key_id": ALL, "team_id": ALL, "model": ALL},
    "some": {"api_key_id": list(KEYS), "team_id": ["", *TEAMS], "model": list(MODELS)},
    "what nobody has": {"api_key_id": [EVIL], "team_id": [EVIL], "model": [EVIL]},
}


def asking() -> list[Panel]:
    return [panel for panel in panels() if panel.sql]


def alls(panel: Panel) -> dict[str, str]:
    path = next(path for path in DASHBOARDS if path.stem == panel.board)
    return {name: one["allValue"] for name, one in variables(path).items()}


@pytest.fixture(scope="module")
def filled(postgres_server: Server) -> Iterator[str]:
    """A database with calls of three months, one of them a moment ago, and a key that has used up its limit."""
    name = f"test_{os.urandom(6).hex()}"
    asyncio.run(administer(postgres_server.url, f"CREATE DATABASE {name}"))
    url = urlsplit(postgres_server.url)._replace(path=f"/{name}").geturl()
    asyncio.run(fill(url))
    yield url
    asyncio.run(administer(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)"))


async def fill(url: str) -> None:
    rng, now = random.Random(os.environ["SEED"]), datetime.now(UTC)
    await migrate(url)
    postgres = await open_pool(url)
    events = calls(rng, now, CALLS)
    async with connected(url) as database:
        await database.execute("SELECT make_usage_partition(now()::date)")
        await inserted(rng, postgres, events)
        await settled(rng, database, events, now)
        await database.execute(USED_UP)
    await postgres.close()


@pytest.fixture
async def reader(filled: str) -> AsyncIterator[asyncpg.Connection]:
    """As Grafana connects: a user in `dashboard_reader`, in a session that is told nothing."""
    async with user_in(filled, READER) as url, connected(url) as connection:
        yield connection


async def asked(reader: asyncpg.Connection, panel: Panel, choice: str, shown: Range = SHOWN) -> list[asyncpg.Record]:
    return [
        row
        for target in panel.sql
        for row in await reader.fetch(sent(target["rawSql"], shown, CHOICES[choice], alls(panel)))
    ]


def check_series(panel: Panel, rows: list[asyncpg.Record]) -> None:
    """A time in order, numbers, and at most one column of names."""
    names = list(rows[0].keys())
    assert names[0] == "time"
    times = [row["time"] for row in rows]
    assert all(isinstance(at, date) for at in times)
    assert times == sorted(times), panel.name
    if "metric" in names:
        assert len(names) == 3, "only then Grafana calls each series by its metric"
        assert len({(row["time"], row["metric"]) for row in rows}) == len(rows), panel.name
    for name in names[1:]:
        assert all(isinstance(row[name], str if name == "metric" else NUMBERS) for row in rows), (panel.name, name)


async def test_every_panel_shows_something_with_all_and_with_some_chosen(reader: asyncpg.Connection) -> None:
    assert len(asking()) > 20
    for panel in asking():
        rows = await asked(reader, panel, "all")
        assert rows, panel.name
        assert set(columns_named(panel.body)) <= set(rows[0].keys()), panel.name
        assert {target["format"] for target in panel.sql} == {"time_series" if is_series(panel) else "table"}
        if is_series(panel):
            check_series(panel, rows)
        assert len(await asked(reader, panel, "some")) <= len(rows), panel.name


def is_series(panel: Panel) -> bool:
    return panel.body["type"] == "timeseries"


async def test_a_choice_is_a_choice_and_never_sql(reader: asyncpg.Connection) -> None:
    for panel in asking():
        rows = await asked(reader, panel, "what nobody has")
        if "${" in panel.sql[0]["rawSql"]:
            assert not rows or not any(map(counted, rows)), panel.name


def counted(row: asyncpg.Record) -> Any:
    """Whether a row of sums says more than 0."""
    return any(value for value in row.values())


async def test_figures_are_those_of_the_time_shown(reader: asyncpg.Connection) -> None:
    """Of a minute at noon the stat is the whole day's, which the view has too."""
    panel = next(panel for panel in asking() if panel.body["title"] == "Calls" and panel.body["type"] == "stat")
    days = await reader.fetch("SELECT day, calls FROM dashboard.usage_by_day")
    for day, called in days:
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        (row,) = await asked(reader, panel, "all", Range(noon, noon + timedelta(minutes=1)))
        assert row["calls"] == called
    assert sum(called for _, called in days) == CALLS


async def test_panels_of_an_empty_database_are_empty_and_no_error(database_url: str) -> None:
    await migrate(database_url)
    async with user_in(database_url, READER) as url, connected(url) as reader:
        for panel in asking():
            rows = await asked(reader, panel, "all")
            assert not any(map(counted, rows)), panel.name


async def test_variables_offer_what_there_is(reader: asyncpg.Connection) -> None:
    offered = {}
    for path in DASHBOARDS:
        for name, one in variables(path).items():
            if one["datasource"]["uid"] == "usage":
                rows = await reader.fetch(sent(one["query"], SHOWN, {}, {}))
                offered[name] = {row.get("__value", row[0]) for row in rows}
                assert one["allValue"] == name, "a column is always among itself, also where there is nothing"
    assert set(offered) == set(CHOICES["all"])
    assert offered["model"] == set(MODELS)
    assert set(KEYS) <= offered["api_key_id"]
    assert set(TEAMS) == offered["team_id"]


async def test_every_view_is_shown_and_nothing_else_is_read(reader: asyncpg.Connection) -> None:
    text = " ".join(target["rawSql"] for panel in asking() for target in panel.sql)
    read = re.findall(r"\b(?:FROM|JOIN) ([\w.]+)", text)
    assert {f"dashboard.{row['viewname']}" for row in await reader.fetch(VIEWS)} == set(read)
