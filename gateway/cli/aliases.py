"""`llm-gateway aliases`: names that operators give to models."""

import argparse
import json
from argparse import ArgumentTypeError
from typing import Any

from gateway.cli import command
from gateway.cli.admin import Admin, Answer, path_of
from gateway.cli.amounts import count
from gateway.cli.command import Actions, Options
from gateway.cli.refused import Refused
from gateway.cli.table import record, table

HELP = "names for models, with fallbacks (needs a running gateway and its admin secret)"
ALIASES = "/aliases"
TAKEN, MISSING = "conflict", "alias_not_found"
HEAD = ("NAME", "TARGETS", "ANSWERS", "CONTEXT", "OPTIONS")

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    actions = Actions(
        parser, "Manage aliases over HTTP: the first of an alias' models that can be served answers its calls."
    )
    actions.add("list", "show all aliases", _list, _listed, example="llm-gateway aliases list")
    new = actions.add(
        "set",
        "make an alias, or replace the one of that name whole",
        _set,
        _shown,
        example="llm-gateway aliases set fast llama3.2:3b qwen3:4b --option temperature=0 --context 8192",
    )
    new.add_argument("name", metavar="NAME", help="the alias")
    new.add_argument("targets", metavar="MODEL", nargs="+", help="models, the first that can be served answers")
    new.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of Ollama's that wins over the client's; may be repeated",
    )
    new.add_argument("--context", type=count, metavar="TOKENS", help="its num_ctx, whatever the client asks for")
    remove = actions.add("remove", "remove an alias", _remove, _removed, example="llm-gateway aliases remove fast")
    remove.add_argument("name", metavar="NAME", help="the alias")


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages(ALIASES, {})


def _set(admin: Admin, options: Options) -> Answer:
    said = {"targets": options.targets, "options": dict(options.option), "context_tokens": options.context}
    try:
        return admin.ask("POST", ALIASES, body={"name": options.name} | said)
    except Refused as refused:
        if refused.code != TAKEN:
            raise
        try:
            return admin.ask("PATCH", ALIASES + path_of(options.name), body=said)
        except Refused as other:  # it was not taken: there are as many as there may be
            raise (refused if other.code == MISSING else other) from None


def _remove(admin: Admin, options: Options) -> Answer:
    return admin.ask("DELETE", ALIASES + path_of(options.name))


def _option(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is JSON is meant so, any other is a text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is no option: write it as temperature=0.5")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _listed(said: Any, options: Options) -> str:
    return table(HEAD, [_row(alias) for alias in said["data"]])


def _row(alias: Any) -> tuple[Any, ...]:
    return alias["name"], alias["targets"], alias["answers"], alias["context_tokens"], _options(alias)


def _options(alias: Any) -> list[str]:
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in alias["options"].items()]


def _shown(said: Any, options: Options) -> str:
    return record(
        [
            ("name", said["name"]),
            ("targets", said["targets"]),
            ("answers", said["answers"]),
            ("context", said["context_tokens"]),
            ("options", _options(said)),
        ]
    )


def _removed(said: Any, options: Options) -> str:
    return f"removed {options.name}"
