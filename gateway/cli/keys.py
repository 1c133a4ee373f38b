"""`llm-gateway keys`: API keys, through the admin API of a running gateway."""

import argparse

from gateway.cli import command
from gateway.cli.account import report
from gateway.cli.admin import Admin, Answer, path_of
from gateway.cli.amounts import amount, count
from gateway.cli.command import Actions, Misused, Options, given
from gateway.cli.dry_run import explained
from gateway.cli.key_fields import add_fields, body_of
from gateway.cli.key_views import UNUSED, created, listed, revoked, shown, unseen
from gateway.cli.moments import duration
from gateway.cli.refused import Refused

HELP = "create, change, rotate and revoke API keys (needs a running gateway and its admin secret)"
KEYS = "/api-keys"

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser, "Manage API keys over HTTP.")
    create = actions.add(
        "create",
        "create a key and show it, once",
        _create,
        created,
        example="llm-gateway keys create --label billing --tier basic --credits 100 --expires 90d",
    )
    create.set_defaults(fails=unseen)
    create.add_argument("--label", required=True, help="what the key is for")
    create.add_argument(
        "--credits", type=amount, metavar="N", help="its first credits; without, its calls cost nothing"
    )
    add_fields(create)
    listing = actions.add(
        "list", "show all keys, newest first", _list, listed, example="llm-gateway keys list --tier basic --enabled"
    )
    _add_filters(listing)
    _one(
        actions,
        "show",
        "show all about a key; Redis keeps when a secret was last used, and forgets it when it loses its data",
        _show,
        shown,
        "llm-gateway keys show 7hXm2kQz9A",
    )
    update = _one(
        actions,
        "update",
        "change a key; what is not named stays as it is",
        _update,
        shown,
        "llm-gateway keys update 7hXm2kQz9A --rate-limit-per-min 60 --tokens-per-min inherit --no-shadow",
    )
    update.add_argument("--label", help="what the key is for")
    update.add_argument(
        "--enabled", action=argparse.BooleanOptionalAction, help="whether it works; off it can be switched on again"
    )
    update.add_argument("--metered", action=argparse.BooleanOptionalAction, help="whether its calls cost credits")
    add_fields(update)
    rotate = _one(
        actions,
        "rotate",
        "give a key a new secret and show it, once",
        _rotate,
        created,
        "llm-gateway keys rotate 7hXm2kQz9A --overlap 24h",
    )
    rotate.set_defaults(fails=unseen)
    rotate.add_argument(
        "--overlap", type=duration, metavar="TIME", help="how long the old one works on (default: 24h; 0s: not at all)"
    )
    _one(
        actions,
        "revoke",
        "make a key useless, at once and for good",
        _revoke,
        revoked,
        "llm-gateway keys revoke 7hXm2kQz9A",
    )
    _one(actions, "usage", "show what a key has used and has left", _usage, report, "llm-gateway keys usage 7hXm2kQz9A")
    _add_dry_run(actions)


def _one(
    actions: Actions, name: str, about: str, act: command.Act, show: command.Show, example: str
) -> argparse.ArgumentParser:
    parser = actions.add(name, about, act, show, example=example)
    parser.add_argument("id", metavar="ID", help="the key's id, as `list` shows it")
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", help="keys with this in their label")
    parser.add_argument("--owner-email", metavar="ADDRESS", help="keys of this owner")
    parser.add_argument("--team", metavar="ID", help="keys of this team")
    parser.add_argument("--tier", help="keys of this tier")
    parser.add_argument(
        "--enabled", action=argparse.BooleanOptionalAction, help="keys that are on, or those that are off or revoked"
    )


def _add_dry_run(actions: Actions) -> None:
    parser = _one(
        actions,
        "dry-run",
        "say whether a call would be admitted, and what each limit says; exit code 1 where it would not",
        _dry_run,
        explained,
        "llm-gateway keys dry-run 7hXm2kQz9A --model llama3.2:3b --prompt-tokens 500 --max-tokens 1000",
    )
    parser.set_defaults(fails=lambda said: not said["would_admit"])
    parser.add_argument("--model", required=True, help="the model of the call")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--prompt-tokens", type=count, metavar="N", help="how long its prompt is")
    size.add_argument("--prompt-bytes", type=count, metavar="N", help="how long the text of its prompt is, in UTF-8")
    parser.add_argument("--max-tokens", type=count, metavar="N", help="how long its answer may be")
    parser.add_argument("--address", metavar="IP", help="whom it comes from; without, the key's networks are not asked")


def _create(admin: Admin, options: Options) -> Answer:
    return admin.ask("POST", KEYS, body=body_of(options, anew=True) | given(options, "credits"))


def _list(admin: Admin, options: Options) -> Answer:
    enabled = None if options.enabled is None else str(options.enabled).lower()
    query = given(options, "label", "owner_email", "tier") | {"team_id": options.team, "enabled": enabled}
    return admin.pages(KEYS, query)


def _show(admin: Admin, options: Options) -> Answer:
    return admin.ask("GET", KEYS + path_of(options.id))


def _update(admin: Admin, options: Options) -> Answer:
    body = body_of(options) | given(options, "enabled", "metered")
    if not body:
        raise Misused("nothing to change: say what with a flag, `llm-gateway keys update --help` lists them")
    return admin.ask("PATCH", KEYS + path_of(options.id), body=body)


def _rotate(admin: Admin, options: Options) -> Answer:
    body = {} if options.overlap is None else {"overlap_seconds": options.overlap}
    try:
        return admin.ask("POST", f"{KEYS}{path_of(options.id)}/rotate", body=body)
    except Refused as refused:
        if not refused.unsure:
            raise
        raise Refused(f"{refused}\nIt can be rotated again: {UNUSED[0].lower()}{UNUSED[1:]}", unsure=True) from None


def _revoke(admin: Admin, options: Options) -> Answer:
    return admin.ask("DELETE", KEYS + path_of(options.id))


def _usage(admin: Admin, options: Options) -> Answer:
    return admin.ask("GET", f"{KEYS}{path_of(options.id)}/usage")


def _dry_run(admin: Admin, options: Options) -> Answer:
    body = {"key_id": options.id, "model": options.model}
    call = given(options, "prompt_tokens", "prompt_bytes", "max_tokens", "address")
    return admin.ask("POST", "/limits/dry-run", body=body | call)
