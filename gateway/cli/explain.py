"""`llm-gateway explain`: what would become of a request of a key, at this moment."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gateway.cli import command, dry_run
from gateway.cli.admin import Admin, Answer
from gateway.cli.command import Misused, Options, describe, given
from gateway.cli.moments import span
from gateway.cli.table import record, table

HELP = (
    "what would become of a request: limits, backends, place in the line (needs a running gateway and its admin secret)"
)
HEAD = ("RANK", "BACKEND", "STATE", "BUSY", "DONE IN", "WEIGHT", "NOTE")
STDIN = "-"
BODY_CHARS_MAX = 10_000_000

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    about = "say what would become of a request of a key; nothing is counted; exit code 1 where it would be refused"
    describe(parser, about, _explain, _explained, example="llm-gateway explain 7hXm2kQz9A --file body.json")
    parser.set_defaults(fails=lambda said: said["would"]["refused"] is not None)
    parser.add_argument("id", metavar="KEY", help="the key's id: the ten characters behind its prefix")
    parser.add_argument("--file", required=True, help=f"what holds the body, as JSON; {STDIN}: standard input")
    parser.add_argument("--endpoint", metavar="PATH", help="the route it is for (default: /v1/chat/completions)")
    parser.add_argument("--address", metavar="IP", help="whom it comes from; without, the key's networks are not asked")


def _explain(admin: Admin, options: Options) -> Answer:
    body = {"key_id": options.id, "body": _body(options.file)}
    return admin.ask("POST", "/explain", body=body | given(options, "endpoint", "address"))


def _body(file: str) -> dict[str, Any]:
    """Raises `Misused` for a file that cannot be read or holds no JSON object."""
    try:
        body = json.loads(_text(file))
    except OSError as error:
        raise Misused(f"{file} cannot be read ({type(error).__name__})") from None
    except ValueError:
        raise Misused(f"{file} holds no JSON") from None
    if not isinstance(body, dict):
        raise Misused(f"{file} holds JSON, but no object")
    return body


def _text(file: str) -> str:
    if file == STDIN:
        return sys.stdin.read(BODY_CHARS_MAX)
    with Path(file).open(encoding="utf-8") as opened:
        return opened.read(BODY_CHARS_MAX)


def _explained(said: Any, options: Options) -> str:
    about = record(
        [
            ("key", f"{said['key']['id']}, label {said['key']['label']}"),
            ("model", said["model"] + (f", as {said['alias']}" if said["alias"] else "")),
            ("prompt", f"about {said['prompt_tokens']:,} tokens"),
            ("beginning known to", said["affinity"]),
            ("would", _would(said["would"])),
        ]
    )
    somewhere = any(backend["state"] in ("loaded", "loading") for backend in said["backends"])
    backends = table(HEAD, [_row(backend, somewhere) for backend in said["backends"]])
    return "\n\n".join([about, dry_run.explained(said["admission"], options), backends])


def _would(would: Any) -> str:
    if would["refused"]:
        return f"be refused ({would['refused']})"
    if would["place"]:
        return f"go to {would['place']}{', which loads the model first' if would['loads'] else ''}"
    return f"wait at position {would['queue_position']} of {would['depth'] + 1}, about {span(would['about_s'])}"


def _row(backend: Any, somewhere: bool) -> tuple[Any, ...]:
    """`somewhere`: whether any of them has the model in memory."""
    return (
        backend["rank"],
        backend["name"],
        backend["state"],
        f"{backend['busy']}/{backend['slots']}",
        None if backend["finish_ms"] is None else f"{backend['finish_ms'] / 1000:.1f} s",
        backend["weight"],
        _note(backend, somewhere),
    )


def _note(backend: Any, somewhere: bool) -> str:
    if backend["reason"]:
        return str(backend["reason"]).replace("_", " ")
    if backend["state"] == "cold" and somewhere:
        return f"loads it when {backend['load_from']} calls wait for each that has it"
    return "as good as the best" if backend["equal"] else ""
