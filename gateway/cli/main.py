"""`llm-gateway`: reads the settings once and hands them to a command. Exit codes: 0 done, 1 failed, 2 asked wrongly."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

DOTENV = Path(".env")
COMMANDS = (
    "up", "serve", "worker", "migrate", "health", "check", "keys", "teams", "tiers", "prices", "credits", "reconcile",
    "usage", "backends", "aliases", "explain", "audit", "openapi",
)  # fmt: skip
"""each a module beside this one"""
QUICK = "health"
"""runs every few seconds, so it does without the settings where it can"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Each is imported when it is asked for, and heavy modules when it runs."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = _parser(words[:1] if words and words[0] in COMMANDS else COMMANDS).parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may not know each sign of a label
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(_module(options.command), options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(module: ModuleType, options: argparse.Namespace) -> int:
    if options.command == QUICK and not DOTENV.exists() and (place := module.place_in(options, os.environ)):
        return int(module.tell(*place))
    from gateway.settings import SettingsError, load

    try:
        return int(module.run(options, load(os.environ, DOTENV)))
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2


def _module(command: str) -> ModuleType:
    return import_module(f"gateway.cli.{command}")


def _parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-gateway",
        description="Keys, limits and accounting in front of your own Ollama machines.",
        epilog=f"Settings come from the environment and from {DOTENV} in the current directory. "
        "`llm-gateway COMMAND --help` says what a command needs.",
    )
    parsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in commands:
        module = _module(command)
        module.add(parsers.add_parser(command, help=module.HELP))
    return parser
