"""`llm-gateway`: reads the settings once and hands them to a command. Exit codes: 0 done, 1 failed, 2 asked wrongly."""

import argparse
import io
import os
import sys
from pathlib import Path
from types import ModuleType

from gateway.cli import (
    aliases,
    audit,
    backends,
    check,
    credits,
    explain,
    keys,
    migrate,
    openapi,
    prices,
    reconcile,
    serve,
    teams,
    tiers,
    up,
    usage,
    worker,
)
from gateway.settings import SettingsError, load

DOTENV = ".env"
COMMANDS: dict[str, ModuleType] = {
    "up": up,
    "serve": serve,
    "worker": worker,
    "migrate": migrate,
    "check": check,
    "keys": keys,
    "teams": teams,
    "tiers": tiers,
    "prices": prices,
    "credits": credits,
    "reconcile": reconcile,
    "usage": usage,
    "backends": backends,
    "aliases": aliases,
    "explain": explain,
    "audit": audit,
    "openapi": openapi,
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code. Heavy modules are imported by the command that needs them, when it runs."""
    options = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may not know each sign of a label
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        settings = load(os.environ, Path(DOTENV))
        return int(COMMANDS[options.command].run(options, settings))
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-gateway",
        description="Keys, limits and accounting in front of your own Ollama machines.",
        epilog=f"Settings come from the environment and from {DOTENV} in the current directory. "
        "`llm-gateway COMMAND --help` says what a command needs.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        module.add(commands.add_parser(name, help=module.HELP))
    return parser
