"""`llm-gateway usage`: what was used, as a table or for a spreadsheet; and events that are no rows yet."""

import argparse
import sys
from typing import Any

from gateway.cli import command
from gateway.cli.admin import Admin, Answer
from gateway.cli.amounts import count, plain
from gateway.cli.command import Actions, Misused, Options, given
from gateway.cli.dead import add_dead
from gateway.cli.moments import minute
from gateway.cli.table import table
from gateway.core import grouping, sheet

HELP = "what was used, by whatever is named (needs a running gateway and its admin secret)"
USAGE = "/usage"
GROUPS = 10_000
"""as many as the gateway tells at once"""
HEAD = {
    "failed_calls": "FAILED",
    "estimated_calls": "ESTIMATED",
    "prompt_tokens": "PROMPT",
    "completion_tokens": "COMPLETION",
    "total_tokens": "TOKENS",
    "team_credits": "OF TEAM",
    "avg_response_seconds": "AVG S",
    "queue_seconds": "QUEUE S",
    "gpu_seconds": "GPU S",
}
"""columns whose heads are not their names"""

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser, "Usage over HTTP: sums of calls, tokens, credits and times. All times are UTC.")
    _add_show(actions)
    add_dead(actions)


def _add_show(actions: Actions) -> None:
    show = actions.add(
        "show",
        "show sums of calls, tokens, credits and times, a second or two behind",
        _show,
        _shown,
        example="llm-gateway usage show --by day,model --from 2027-01-01 --to 2027-02-01 --csv",
    )
    groups = ", ".join(grouping.GROUPS)
    show.add_argument("--by", dest="group_by", metavar="WHAT", help=f"{groups}, or several with commas (default: day)")
    show.add_argument("--from", dest="since", metavar="TIME", help="the first day or hour (default: this month's)")
    show.add_argument("--to", metavar="TIME", help="the day or hour before which it ends (default: this month's end)")
    show.add_argument("--key", dest="key_id", metavar="ID", help="calls of this key")
    show.add_argument("--team", dest="team_id", metavar="ID", help="calls of this team's keys")
    show.add_argument("--model", help="calls to this model")
    show.add_argument("--backend", metavar="NAME", help="calls that ended on this node")
    show.add_argument("--status", help="calls that ended so: ok, client_gone, or the code of an error")
    show.add_argument("--limit", type=count, default=GROUPS, metavar="N", help=f"how many groups (default: {GROUPS})")
    show.add_argument("--csv", action="store_true", help="print CSV, safe to open in a spreadsheet")


def _show(admin: Admin, options: Options) -> Answer:
    if options.csv and options.json:
        raise Misused("either --csv or --json, not both")
    query = given(options, "group_by", "to", "key_id", "team_id", "model", "backend", "status", "limit")
    return admin.ask("GET", USAGE, query=query | {"from": options.since})


def _shown(said: Any, options: Options) -> str:
    names = grouping.columns(tuple(said["group_by"]))
    rows = [[group[name] for name in names] for group in said["data"]]
    if said["truncated"]:
        print(f"only the first {len(rows):,} groups are shown", file=sys.stderr)
    if options.csv:
        return sheet.text(names, rows).removesuffix("\n")  # the last one is printed
    head = [HEAD.get(name, name.upper().replace("_", " ")) for name in names]
    return table(head, ([_cell(name, value) for name, value in zip(names, row, strict=True)] for row in rows))


def _cell(name: str, value: Any) -> Any:
    if name == "hour":
        return minute(value)
    return plain(value) if isinstance(value, int | float) else value
