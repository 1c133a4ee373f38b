"""What all commands that ask the admin API have in common: their actions, what they print, how they end."""

import argparse
import json
import sys
import textwrap
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from gateway.cli.admin import ROWS_MAX, Admin, Answer, connect
from gateway.cli.flags import gateway_url, misspelt
from gateway.cli.refused import Refused
from gateway.settings import Settings

DONE, FAILED, ASKED_WRONGLY = 0, 1, 2

T = TypeVar("T")
Options: TypeAlias = argparse.Namespace
Act: TypeAlias = Callable[[Admin, Options], Answer]
Show: TypeAlias = Callable[[Any, Options], str]

WHERE = (
    "The admin secret is ADMIN_SECRET or the one that `up` has saved in DATA_DIR; the gateway is the one that `up` "
    "runs there, or HOST and ADMIN_PORT or PORT. Exit codes: 0 done, 1 refused or failed, 2 asked wrongly."
)


UNLIKE = (LookupError, TypeError, ValueError, AttributeError)
"""what reading an answer of another shape raises"""


class Misused(Exception):
    """What the flags say makes no sense; the message says why."""


class Actions:
    """The actions of one command, each a parser of its own. `required`: the command alone does nothing."""

    def __init__(self, parser: argparse.ArgumentParser, about: str, *, required: bool = True) -> None:
        parser.description = f"{about} {WHERE}"
        self._parsers = parser.add_subparsers(dest="action", metavar="ACTION", required=required)

    def add(self, name: str, about: str, act: Act, show: Show, *, example: str) -> argparse.ArgumentParser:
        """One more; `act` asks the gateway, `show` makes text of what it said."""
        parser = self._parsers.add_parser(name, help=about, allow_abbrev=False)
        describe(parser, about, act, show, example=example)
        return parser


def describe(parser: argparse.ArgumentParser, about: str, act: Act, show: Show, *, example: str) -> None:
    """Make `parser` one of an action."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = textwrap.fill(f"{about[0].upper()}{about[1:]}. {WHERE}", 100)
    parser.epilog = f"example:\n  {example}"
    parser.add_argument("--url", type=gateway_url, help="where the gateway is, such as http://127.0.0.1:8000")
    parser.add_argument("--json", action="store_true", help="print the gateway's answer as JSON")
    parser.set_defaults(act=act, show=show, fails=_never)


def _never(answer: Any) -> bool:
    return False


def run(options: Options, settings: Settings) -> int:
    """Ask, print, and end as what was said demands: `options.fails` tells whether it is a failure."""
    try:
        if wrong := misspelt(options):
            raise Misused(wrong)
        admin = connect(options.url, settings)
        return _told(admin, options.act(admin, options), options)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return FAILED
    except Misused as misused:
        print(misused, file=sys.stderr)
        return ASKED_WRONGLY


def _told(admin: Admin, answer: Answer, options: Options) -> int:
    """Prints it; the exit code. Raises `Refused` for an answer that is not of the shape this command knows."""
    show = _as_json if options.json else options.show
    print(_read(admin, answer, lambda said: show(said, options)))
    if len(answer.said.get("data", ())) >= ROWS_MAX:
        print(f"only the first {ROWS_MAX:,} are shown", file=sys.stderr)
    return FAILED if _read(admin, answer, options.fails) else DONE


def _as_json(said: Any, options: Options) -> str:
    """As it came, in a terminal that can show it."""
    return json.dumps(said, indent=2, ensure_ascii=sys.stdout.encoding.lower() != "utf-8")


def _read(admin: Admin, answer: Answer, read: Callable[[Any], T]) -> T:
    """The one place where an answer of another shape is found out. Raises `Refused`."""
    try:
        return read(answer.said)
    except UNLIKE as error:
        raise Refused(
            f"{admin.url} answered {answer.status}, but nothing that this command can read "
            f"({type(error).__name__}: {error}): is it a gateway of another version? --json prints what it said"
        ) from None


def given(options: Options, *names: str) -> dict[str, Any]:
    """Those of the flags that were used, by their names in JSON."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}
