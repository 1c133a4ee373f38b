"""`llm-gateway audit`: who changed what, and when."""

import argparse
from typing import Any

from gateway.cli import command
from gateway.cli.admin import Admin, Answer
from gateway.cli.amounts import count
from gateway.cli.command import Options, describe, given
from gateway.cli.moments import minute
from gateway.cli.table import table, text

HELP = "who changed what and when (needs a running gateway and its admin secret)"
LAST = 50
HEAD = ("AT (UTC)", "WHO", "DID", "TO", "WHAT CHANGED")
CHANGE_CHARS_MAX = 160
OF_COURSE = ("version", "updated_at")
"""what changes with everything"""

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    about = "show the changes that operators made, newest first"
    describe(parser, about, _list, _listed, example="llm-gateway audit --object key:7hXm2kQz9A --last 10")
    parser.add_argument(
        "--object",
        metavar="WHAT",
        help="of one thing: key:ID, team:ID, tier:NAME, price:ID, backend:NAME, alias:NAME or usage:dead",
    )
    parser.add_argument("--action", help="of one kind: create, update, revoke, rotate, grant, remove or replay")
    parser.add_argument("--actor", metavar="WHO", help="of one person")
    parser.add_argument("--last", type=count, default=LAST, metavar="N", help=f"how many (default: {LAST})")


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages("/audit", given(options, "object", "action", "actor"), options.last)


def _listed(said: Any, options: Options) -> str:
    return table(HEAD, [_row(entry) for entry in said["data"]], chars_max=CHANGE_CHARS_MAX)


def _row(entry: Any) -> tuple[Any, ...]:
    return (
        minute(entry["at"]),
        entry["actor"],
        entry["action"],
        entry["object"],
        changes(entry["before"], entry["after"]),
    )


def changes(before: Any, after: Any) -> str:
    """What is not as it was; of something new or gone nothing, for `--json` shows it whole."""
    if not before or not after:
        return ""
    was, is_now = _flat(before), _flat(after)
    names = [name for name in {**was, **is_now} if was.get(name) != is_now.get(name) and name not in OF_COURSE]
    return ", ".join(f"{name} {text(was.get(name))} → {text(is_now.get(name))}" for name in names)


def _flat(shown: Any, before: str = "") -> dict[str, Any]:
    """Nested names joined by dots; times and secrets as people tell them apart."""
    flat: dict[str, Any] = {}
    for name, value in shown.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        elif name == "secrets":
            flat[before + name] = [f"…{secret['last_four']}" for secret in value]
        else:
            flat[before + name] = minute(value) if name.endswith("_at") else value
    return flat
