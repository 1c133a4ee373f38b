"""`llm-gateway reconcile`: whether Redis, usage rows and their sums agree."""

import argparse
from typing import Any

from gateway.cli import command
from gateway.cli.admin import Admin, Answer
from gateway.cli.amounts import plain
from gateway.cli.command import Options, describe, given
from gateway.cli.credits import owner
from gateway.cli.moments import month
from gateway.cli.table import table

HELP = "prove that Redis, usage rows and their sums agree (needs a running gateway and its admin secret)"
WAIT_S = 300.0
HEAD = ("OF", "WHAT", "UNIT", "DAY", "SHOULD BE", "IS")
LATE = "More events wait than are read at once: let the workers catch up, and ask again."
NO_ROWS = "Its rows are dropped, so only Redis and sums were compared."

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    about = "compare grants, usage rows, their sums, waiting events and Redis; exit code 1 where they differ"
    describe(parser, about, _ask, _told, example="llm-gateway reconcile --month 2026-11")
    parser.set_defaults(fails=lambda said: not said["agrees"])
    parser.add_argument("--month", type=month, metavar="YYYY-MM", help="which month, in UTC (default: this one)")


def _ask(admin: Admin, options: Options) -> Answer:
    return admin.ask("GET", "/reconcile", query=given(options, "month"), wait_s=WAIT_S)


def _told(said: Any, options: Options) -> str:
    looked = f"(keys: {said['keys']:,}, teams: {said['teams']:,}, events not stored yet: {said['events']:,})"
    first = "all agree" if said["agrees"] else f"differences: {said['differing']:,}"
    rows = [_row(one) for one in said["differences"]]
    more = said["differing"] - len(rows)
    parts = [
        f"{said['month']}: {first} {looked}",
        LATE if not said["complete"] else "",
        NO_ROWS if said["rows"] == "dropped" else "",
        _dead(said["dead"]) if said["dead"] else "",
        table(HEAD, rows) if rows else "",
        f"{more:,} more are not listed." if more else "",
    ]
    return "\n\n".join(filter(None, parts))


def _row(one: Any) -> tuple[Any, ...]:
    return owner(one), one["what"], one["unit"], one["day"], plain(one["expected"]), plain(one["found"])


def _dead(count: int) -> str:
    return (
        f"Events that are set aside: {count:,}. Charged, but no rows: `llm-gateway usage dead` shows why, "
        "and `replay` tries them again."
    )
