"""`llm-gateway prices`: what calls to a model cost, and from when on."""

import argparse
from typing import Any

from gateway.cli import command
from gateway.cli.admin import Admin, Answer, path_of
from gateway.cli.amounts import amount, count, plain
from gateway.cli.command import Actions, Misused, Options, given
from gateway.cli.moments import full, minute, moment
from gateway.cli.table import record, table

HELP = "what calls cost (needs a running gateway and its admin secret)"
PRICES = "/prices"
PARTS = {
    "per_request": "credits for each request",
    "per_1k_prompt_tokens": "credits for 1,000 tokens of the prompt",
    "per_1k_completion_tokens": "credits for 1,000 tokens of the answer",
}
HEAD = ("ID", "MODEL", "FROM (UTC)", "REQUEST", "1K PROMPT", "1K COMPLETION")

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    actions = Actions(
        parser,
        "Manage prices over HTTP. A call pays what was valid when it was admitted, times the multiplier of its key's "
        "tier; a model without a price of its own costs that of `*`.",
    )
    new = actions.add(
        "add",
        "set a price, from now or a later time on",
        _add,
        _shown,
        example="llm-gateway prices add llama3.2:3b --per-1k-prompt-tokens 0.1 --per-1k-completion-tokens 0.4",
    )
    new.add_argument("model", metavar="MODEL", help="a model's name, or '*' for all that have no price of their own")
    new.add_argument("--valid-from", type=moment, metavar="TIME", help="2027-01-01T00:00:00Z, or 90d from now")
    for name, about in PARTS.items():
        new.add_argument(f"--{name.replace('_', '-')}", type=amount, metavar="N", help=f"{about} (default: 0)")
    listing = actions.add(
        "list", "show all prices", _list, _listed, example="llm-gateway prices list --model llama3.2:3b"
    )
    listing.add_argument("--model", help="prices of this model alone")
    remove = actions.add(
        "remove", "remove a price that is not valid yet", _remove, _removed, example="llm-gateway prices remove 7"
    )
    remove.add_argument("id", metavar="ID", type=count, help="the price's number, as `list` shows it")


def _add(admin: Admin, options: Options) -> Answer:
    parts = given(options, *PARTS)
    if not parts:
        raise Misused("a price needs at least one part: --per-request, --per-1k-prompt-tokens …; for nothing, say 0")
    return admin.ask("POST", PRICES, body=given(options, "model", "valid_from") | parts)


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages(PRICES, {"model": options.model})


def _remove(admin: Admin, options: Options) -> Answer:
    return admin.ask("DELETE", PRICES + path_of(str(options.id)))


def _listed(said: Any, options: Options) -> str:
    return table(HEAD, [_row(price) for price in said["data"]])


def _row(price: Any) -> tuple[Any, ...]:
    return price["id"], price["model"], minute(price["valid_from"]), *(plain(price[part]) for part in PARTS)


def _shown(said: Any, options: Options) -> str:
    parts = [(about, plain(said[part])) for part, about in PARTS.items()]
    return record([("id", said["id"]), ("model", said["model"]), ("valid from", full(said["valid_from"])), *parts])


def _removed(said: Any, options: Options) -> str:
    return f"removed {options.id}"
