"""`llm-gateway teams`: keys that share limits and credits."""

import argparse
from typing import Any

from gateway.cli import command
from gateway.cli.account import report
from gateway.cli.admin import Admin, Answer, path_of
from gateway.cli.amounts import amount
from gateway.cli.command import Act, Actions, Misused, Options, Show, given
from gateway.cli.key_views import credits_of
from gateway.cli.limits import add_limits, limits_of, lines_of, short
from gateway.cli.moments import full, minute
from gateway.cli.table import record, table

HELP = "teams, whose keys share limits and credits (needs a running gateway and its admin secret)"
TEAMS = "/teams"
HEAD = ("ID", "LABEL", "REQUESTS/MIN", "TOKENS/MONTH", "CREDITS", "CREATED (UTC)")

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    actions = Actions(
        parser, "Manage teams over HTTP: a call of one of their keys has to fit both its limits and theirs."
    )
    create = actions.add(
        "create",
        "make a team",
        _create,
        _shown,
        example="llm-gateway teams create --label research --tokens-per-min 50000 --credits 1000",
    )
    create.add_argument("--label", required=True, help="who they are")
    create.add_argument("--credits", type=amount, metavar="N", help="its first credits; without, it pays none")
    _add_fields(create)
    actions.add("list", "show all teams, newest first", _list, _listed, example="llm-gateway teams list")
    _one(actions, "show", "show all about a team", _show, _shown, "llm-gateway teams show 7hXm2kQz9A")
    update = _one(
        actions,
        "update",
        "change a team; what is not named stays as it is",
        _update,
        _shown,
        "llm-gateway teams update 7hXm2kQz9A --monthly-token-limit unlimited",
    )
    update.add_argument("--label", help="who they are")
    update.add_argument("--metered", action=argparse.BooleanOptionalAction, help="whether its calls cost its credits")
    _add_fields(update)
    _one(
        actions,
        "remove",
        "remove a team; its keys have to be out of it, or revoked",
        _remove,
        _removed,
        "llm-gateway teams remove 7hXm2kQz9A",
    )
    _one(
        actions, "usage", "show what a team has used and has left", _usage, report, "llm-gateway teams usage 7hXm2kQz9A"
    )


def _one(actions: Actions, name: str, about: str, act: Act, show: Show, example: str) -> argparse.ArgumentParser:
    parser = actions.add(name, about, act, show, example=example)
    parser.add_argument("id", metavar="ID", help="the team's id, as `list` shows it")
    return parser


def _add_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shadow", action=argparse.BooleanOptionalAction, help="count what its limits would refuse, and refuse nothing"
    )
    add_limits(parser, "nothing, as a team has no default,")


def _create(admin: Admin, options: Options) -> Answer:
    return admin.ask("POST", TEAMS, body=given(options, "label", "shadow", "credits") | limits_of(options, anew=True))


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages(TEAMS, {})


def _show(admin: Admin, options: Options) -> Answer:
    return admin.ask("GET", TEAMS + path_of(options.id))


def _update(admin: Admin, options: Options) -> Answer:
    body = given(options, "label", "shadow", "metered") | limits_of(options)
    if not body:
        raise Misused("nothing to change: say what with a flag, `llm-gateway teams update --help` lists them")
    return admin.ask("PATCH", TEAMS + path_of(options.id), body=body)


def _remove(admin: Admin, options: Options) -> Answer:
    return admin.ask("DELETE", TEAMS + path_of(options.id))


def _usage(admin: Admin, options: Options) -> Answer:
    return admin.ask("GET", f"{TEAMS}{path_of(options.id)}/usage")


def _listed(said: Any, options: Options) -> str:
    return table(HEAD, [_row(team) for team in said["data"]])


def _row(team: Any) -> tuple[Any, ...]:
    return (
        team["id"],
        team["label"],
        _own(team["rate_limit_per_min"]),
        _own(team["monthly_token_limit"]),
        credits_of(team),
        minute(team["created_at"]),
    )


def _own(limit: Any) -> str:
    return short(None if isinstance(limit, str) else limit)


def _shown(said: Any, options: Options) -> str:
    return record(
        [
            ("id", said["id"]),
            ("label", said["label"]),
            ("in shadow", said["shadow"]),
            ("created", full(said["created_at"])),
            ("limits", lines_of(said)),
            ("credits", credits_of(said)),
        ]
    )


def _removed(said: Any, options: Options) -> str:
    return f"removed {options.id}"
