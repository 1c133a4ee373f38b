"""`llm-gateway tiers`: classes of keys, what their calls cost, the limits of those that say nothing themselves."""

import argparse
from typing import Any

from gateway.cli import command
from gateway.cli.admin import Admin, Answer, path_of
from gateway.cli.amounts import amount, count, plain
from gateway.cli.command import Act, Actions, Misused, Options, Show, given
from gateway.cli.limits import add_limits, limits_of, lines_of
from gateway.cli.moments import full, minute
from gateway.cli.table import record, table

HELP = "tiers: limits and price of a class of keys (needs a running gateway and its admin secret)"
TIERS = "/tiers"
HEAD = ("NAME", "PRICE TIMES", "WEIGHT", "LIMITS", "CHANGED (UTC)")
LIMITS_CHARS_MAX = 100

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser, "Manage tiers over HTTP. A change reaches the tier's keys at some thousand a second.")
    create = _one(
        actions,
        "create",
        "make a tier",
        _create,
        _shown,
        "llm-gateway tiers create batch --multiplier 0.5 --rate-limit-per-min 600",
    )
    _add_fields(create)
    actions.add("list", "show all tiers", _list, _listed, example="llm-gateway tiers list")
    _one(actions, "show", "show all about a tier", _show, _shown, "llm-gateway tiers show batch")
    update = _one(
        actions,
        "update",
        "change a tier; what is not named stays as it is",
        _update,
        _shown,
        "llm-gateway tiers update batch --tokens-per-min 100000 --burst inherit",
    )
    _add_fields(update)
    _one(actions, "remove", "remove a tier that no key is in", _remove, _removed, "llm-gateway tiers remove batch")


def _one(actions: Actions, name: str, about: str, act: Act, show: Show, example: str) -> argparse.ArgumentParser:
    parser = actions.add(name, about, act, show, example=example)
    parser.add_argument("name", metavar="NAME", help="the tier's name")
    return parser


def _add_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--multiplier", type=amount, metavar="N", help="what the price of a call is multiplied with")
    parser.add_argument(
        "--weight", type=count, metavar="N", help="share of its keys where calls have to wait, 1 to 100"
    )
    add_limits(parser, "the gateway's default")


def _create(admin: Admin, options: Options) -> Answer:
    return admin.ask("POST", TIERS, body=given(options, "name", "multiplier", "weight") | limits_of(options, anew=True))


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages(TIERS, {})


def _show(admin: Admin, options: Options) -> Answer:
    return admin.ask("GET", TIERS + path_of(options.name))


def _update(admin: Admin, options: Options) -> Answer:
    body = given(options, "multiplier", "weight") | limits_of(options)
    if not body:
        raise Misused("nothing to change: say what with a flag, `llm-gateway tiers update --help` lists them")
    return admin.ask("PATCH", TIERS + path_of(options.name), body=body)


def _remove(admin: Admin, options: Options) -> Answer:
    return admin.ask("DELETE", TIERS + path_of(options.name))


def _listed(said: Any, options: Options) -> str:
    rows = [
        (tier["name"], plain(tier["multiplier"]), tier["weight"], "; ".join(lines_of(tier)), minute(tier["updated_at"]))
        for tier in said["data"]
    ]
    return table(HEAD, rows, chars_max=LIMITS_CHARS_MAX)


def _shown(said: Any, options: Options) -> str:
    return record(
        [
            ("name", said["name"]),
            ("price times", plain(said["multiplier"])),
            ("weight", said["weight"]),
            ("created", full(said["created_at"])),
            ("changed", full(said["updated_at"])),
            ("limits", lines_of(said)),
        ]
    )


def _removed(said: Any, options: Options) -> str:
    return f"removed {options.name}"
