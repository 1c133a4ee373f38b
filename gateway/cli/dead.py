"""The actions of `llm-gateway usage` on dead events: which there are and why, and to try them again."""

import argparse
from typing import Any

from gateway.cli.admin import Admin, Answer
from gateway.cli.command import Actions, Misused, Options
from gateway.cli.moments import minute
from gateway.cli.table import table

DEAD, REPLAY = "/usage/dead", "/usage/replay"
REPLAY_S = 60.0
IDS_MAX = 1_000
"""of one request"""
HEAD = ("ID", "DIED (UTC)", "REASON", "CALL", "KEY")
CELL_CHARS_MAX = 64


def add_dead(actions: Actions) -> None:
    actions.add(
        "dead",
        "show the events that no usage row could be made of, and why; --json shows them whole",
        _list,
        _listed,
        example="llm-gateway usage dead",
    )
    replay = actions.add(
        "replay",
        "put dead events back, so that a worker tries them again; what is still wrong with one makes it dead again",
        _replay,
        _replayed,
        example="llm-gateway usage replay 0:1795292735107-0",
    )
    which: argparse._ArgumentGroup = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", nargs="*", default=[], metavar="ID", help="an event's id, as `dead` shows it")
    which.add_argument("--all", action="store_true", help="all of them, 10,000 at a time")


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages(DEAD, {})


def _listed(said: Any, options: Options) -> str:
    if not said["data"]:
        return "no event is dead"
    return table(HEAD, [_row(event) for event in said["data"]], chars_max=CELL_CHARS_MAX)


def _row(event: Any) -> tuple[Any, ...]:
    fields = event["fields"]
    return event["id"], minute(event["died_at"]), event["reason"], fields.get("id"), fields.get("key")


def _replay(admin: Admin, options: Options) -> Answer:
    if len(options.ids) > IDS_MAX:
        raise Misused(f"at most {IDS_MAX:,} ids at once: name fewer, or all with --all")
    if any(not one.strip() for one in options.ids):
        raise Misused("an ID is empty: each has to say which event is meant")
    body = {"all": True} if options.all else {"ids": options.ids}
    return admin.ask("POST", REPLAY, body=body, wait_s=REPLAY_S)


def _replayed(said: Any, options: Options) -> str:
    again = "" if not said["left"] else "; `llm-gateway usage dead` shows which and why, --all takes 10,000 at a time"
    return f"put back: {said['replayed']:,}, dead still: {said['left']:,}{again}"
