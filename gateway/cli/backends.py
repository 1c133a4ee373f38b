"""`llm-gateway backends`: the fleet as a table, and what operators say of its nodes."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gateway.cli import command
from gateway.cli.admin import Admin, Answer, path_of
from gateway.cli.amounts import count
from gateway.cli.command import Act, Actions, Misused, Options, Show, describe, given
from gateway.cli.table import record, table

HELP = "the Ollama nodes of the fleet (needs a running gateway and its admin secret)"
BACKENDS = "/backends"
HEAD = ("NAME", "STATE", "BUSY", "WEIGHT", "MODELS", "LOADED", "VERSION", "EJECTED", "WARNINGS", "URL")
STDIN = "-"
FILE_CHARS_MAX = 100_000

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    describe(parser, HELP, _list, _listed, example="llm-gateway backends")
    actions = Actions(
        parser,
        "Show the fleet, and change it while it runs, over HTTP; without an action, show it.",
        required=False,
    )
    actions.add("list", "show all nodes", _list, _listed, example="llm-gateway backends list")
    _one(actions, "show", "show all about a node", _show, _shown, "llm-gateway backends show gpu-1")
    new = actions.add(
        "add", "add a node", _add, _shown, example="llm-gateway backends add https://gpu-1:11434 --name gpu-1 --slots 4"
    )
    new.add_argument("node_url", metavar="URL", help="http://host:port or https://host:port")
    new.add_argument("--name", help="what it is called (default: its host and port)")
    _add_fields(new)
    change = _one(
        actions,
        "set",
        "change a node; what is not named stays as it is",
        _set,
        _shown,
        "llm-gateway backends set gpu-1 --slots 8 --tag a100 --tag rack-3",
    )
    _add_fields(change)
    for flag, about in (
        ("--no-bearer", "send it none"),
        ("--no-ca", "take the system's certificates"),
        ("--no-tags", "no tags"),
    ):
        change.add_argument(flag, action="store_true", help=about)
    _one(actions, "drain", "give a node no new calls", _drain, _shown, "llm-gateway backends drain gpu-1")
    _one(actions, "undrain", "give it calls again", _undrain, _shown, "llm-gateway backends undrain gpu-1")
    _one(actions, "remove", "remove a node", _remove, _removed, "llm-gateway backends remove gpu-1")


def _one(actions: Actions, name: str, about: str, act: Act, show: Show, example: str) -> argparse.ArgumentParser:
    parser = actions.add(name, about, act, show, example=example)
    parser.add_argument("name", metavar="NAME", help="the node's name, as `list` shows it")
    return parser


def _add_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slots", type=count, metavar="N", help="calls it works on at a time")
    parser.add_argument(
        "--weight", type=count, metavar="N", help="among equals the heavier is preferred (default: 100)"
    )
    parser.add_argument("--tag", action="append", metavar="TAG", help="a word of yours; may be repeated")
    parser.add_argument("--bearer-file", metavar="FILE", help=f"what holds its bearer; {STDIN}: standard input")
    parser.add_argument("--ca-file", metavar="FILE", help="certificates in PEM that its own is to be signed by")
    parser.add_argument("--draining", action=argparse.BooleanOptionalAction, help="whether it gets no new calls")


def _add(admin: Admin, options: Options) -> Answer:
    return admin.ask("POST", BACKENDS, body={"url": options.node_url} | given(options, "name") | _fields(options))


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages(BACKENDS, {})


def _show(admin: Admin, options: Options) -> Answer:
    return admin.ask("GET", BACKENDS + path_of(options.name))


def _set(admin: Admin, options: Options) -> Answer:
    removed: dict[str, Any] = {"bearer": None} if options.no_bearer else {}
    removed |= {"ca_pem": None} if options.no_ca else {}
    removed |= {"tags": []} if options.no_tags else {}
    said = _fields(options)
    if both := set(said) & set(removed):
        raise Misused(f"{', '.join(sorted(both))}: either given or removed, not both")
    if not said and not removed:
        raise Misused("nothing to change: say what with a flag, `llm-gateway backends set --help` lists them")
    return admin.ask("PATCH", BACKENDS + path_of(options.name), body=said | removed)


def _drain(admin: Admin, options: Options) -> Answer:
    return admin.ask("PATCH", BACKENDS + path_of(options.name), body={"draining": True})


def _undrain(admin: Admin, options: Options) -> Answer:
    return admin.ask("PATCH", BACKENDS + path_of(options.name), body={"draining": False})


def _remove(admin: Admin, options: Options) -> Answer:
    return admin.ask("DELETE", BACKENDS + path_of(options.name))


def _fields(options: Options) -> dict[str, Any]:
    """What the flags say, as JSON has it. Raises `Misused` for a file that cannot be read."""
    said = given(options, "slots", "weight", "draining")
    if options.tag is not None:
        said["tags"] = options.tag
    if options.bearer_file is not None:
        said["bearer"] = _read(options.bearer_file)
    if options.ca_file is not None:
        said["ca_pem"] = _read(options.ca_file)
    return said


def _read(file: str) -> str:
    try:
        text = sys.stdin.read(FILE_CHARS_MAX) if file == STDIN else _text_of(Path(file))
    except (OSError, ValueError) as error:
        raise Misused(f"{file} cannot be read ({type(error).__name__})") from None
    if not text.strip():
        raise Misused(f"{file} is empty")
    return text.strip()


def _text_of(path: Path) -> str:
    with path.open(encoding="utf-8") as opened:
        return opened.read(FILE_CHARS_MAX)


def _listed(said: Any, options: Options) -> str:
    return table(HEAD, [_row(node) for node in said["data"]])


def _row(node: Any) -> tuple[Any, ...]:
    return (
        node["name"],
        node["state"],
        f"{node['busy']}/{node['slots']}",
        node["weight"],
        node["models"],
        node["loaded"],
        node["version"],
        [one["model"] for one in node["ejected"]],
        len(node["warnings"]) or None,
        node["url"],
    )


def _shown(said: Any, options: Options) -> str:
    return record(
        [
            ("name", said["name"]),
            ("url", said["url"]),
            ("from", "OLLAMA_BASE_URL" if said["source"] == "settings" else "the admin API"),
            ("state", said["state"]),
            ("busy", f"{said['busy']} of {said['slots']} slots"),
            ("weight", said["weight"]),
            ("draining", said["draining"]),
            ("tags", ", ".join(said["tags"])),
            ("bearer", "set" if said["has_bearer"] else None),
            ("certificates", "its own" if said["has_ca"] else "the system's"),
            ("version", said["version"]),
            ("models", said["models"]),
            ("loaded", said["loaded"]),
            ("loading", said["loading"]),
            ("ejected", [_ejected(one) for one in said["ejected"]]),
            ("warnings", said["warnings"]),
        ]
    )


def _ejected(one: Any) -> str:
    return f"{one['model']} for {one['seconds']} s more, after {one['failures']} failures, {one['ejections']} times"


def _removed(said: Any, options: Options) -> str:
    return f"removed {options.name}"
