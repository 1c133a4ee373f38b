"""Grafana's dashboards as files: their panels, and SQL as Grafana sends it."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct

GRAFANA = Path(__file__).parents[1] / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
ALL = None
"""what is chosen of a variable when nothing is"""
MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")
VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}")


class Panel(Struct, frozen=True):
    board: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.board} {self.body['id']} {self.body['title']}"

    @property
    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body.get("targets", [])
        return found

    @property
    def sql(self) -> list[dict[str, Any]]:
        return [target for target in self.targets if "rawSql" in target]

    @property
    def expressions(self) -> list[str]:
        return [target["expr"] for target in self.targets if "expr" in target]


def board(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def panels() -> list[Panel]:
    """Of all dashboards, without the headings of rows."""
    return [
        Panel(path.stem, body) for path in DASHBOARDS for body in board(path)["panels"] if body["type"] != "row"
    ]  # fmt: skip


def variables(path: Path) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in board(path)["templating"]["list"]}


class Range(Struct, frozen=True):
    """The time that a dashboard shows."""

    since: datetime
    until: datetime

    @classmethod
    def last(cls, days: float) -> "Range":
        now = datetime.now(UTC)
        return cls(now - timedelta(days=days), now)


def sent(text: str, shown: Range, chosen: dict[str, list[str] | None], alls: dict[str, str]) -> str:
    """SQL with macros and variables in their places. `chosen`: what of each; `alls`: what stands for all of it."""
    return MACRO.sub(lambda macro: _macro(macro[1], macro[2], shown), _with(text, chosen, alls))


def _with(text: str, chosen: dict[str, list[str] | None], alls: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, form = found.groups()
        assert form == "sqlstring", f"{found[0]} is not safe in SQL"
        picked = chosen[name]
        return alls[name] if picked is ALL else ",".join("'" + one.replace("'", "''") + "'" for one in picked)

    assert not re.search(r"\$(?!__)[a-z]", VARIABLE.sub("", text)), text
    return VARIABLE.sub(value, text)


def _macro(name: str, argument: str, shown: Range) -> str:
    since, until = (f"'{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}'" for at in (shown.since, shown.until))
    forms = {
        "__timeFilter": f"{argument} BETWEEN {since} AND {until}",
        "__timeFrom": since,
        "__timeTo": until,
    }
    return forms[name]


def columns_named(body: dict[str, Any]) -> Iterator[str]:
    """Columns that a panel's own settings speak of."""
    for override in body["fieldConfig"]["overrides"]:
        assert override["matcher"]["id"] == "byName"
        yield override["matcher"]["options"]
    for one in body["options"].get("sortBy", []):
        yield one["displayName"]
    for step in body.get("transformations", []):
        yield from step["options"]["excludeByName"]
