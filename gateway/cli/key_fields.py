"""What can be said of a key, as flags and as the admin API takes it."""

import argparse
from argparse import ArgumentTypeError
from typing import Any

from gateway.cli.command import Options, given
from gateway.cli.limits import add_limits, limits_of
from gateway.cli.moments import moment

ANY, NONE, NEVER = "any", "none", "never"
PLAIN = ("label", "owner_email", "shadow")


def add_fields(parser: argparse.ArgumentParser) -> None:
    """What can be said of a key when it is made and afterwards."""
    parser.add_argument("--owner-email", metavar="ADDRESS", help="whom to ask about it")
    parser.add_argument("--tier", help=f"its tier, or `{NONE}`")
    parser.add_argument("--team", metavar="ID", help=f"the team whose limits and credits it shares, or `{NONE}`")
    parser.add_argument(
        "--scope", action="append", choices=("inference", "pull"), help="what it may do; may be repeated"
    )
    parser.add_argument(
        "--models",
        action="append",
        type=one_or_any,
        metavar="GLOB",
        help=f"models it may use, or `{ANY}`; may be repeated",
    )
    parser.add_argument(
        "--network",
        action="append",
        type=one_or_any,
        metavar="CIDR",
        help=f"networks it may be used from, or `{ANY}`; may be repeated",
    )
    parser.add_argument("--expires", type=expiry, metavar="TIME", help=f"2027-01-01T00:00:00Z, 90d or `{NEVER}`")
    parser.add_argument(
        "--shadow", action=argparse.BooleanOptionalAction, help="count what its limits would refuse, and refuse nothing"
    )
    add_limits(parser, "its tier, or the gateway's default,")


def one_or_any(text: str) -> str:
    """A flag whose empty list means any; a key that may use none has to be switched off."""
    if text == NONE:
        raise ArgumentTypeError(f"`{NONE}` is not known here: `{ANY}` lifts the restriction, --no-enabled stops a key")
    return text


def expiry(text: str) -> str:
    return NEVER if text == NEVER else moment(text)


def body_of(options: Options, *, anew: bool = False) -> dict[str, Any]:
    """What the flags say of a key, as the admin API takes it."""
    body = given(options, *PLAIN)
    words = {"tier": options.tier, "team_id": options.team, "expires_at": options.expires}
    for name, value in words.items():
        if value is not None and not (anew and value in (NONE, NEVER)):
            body[name] = None if value in (NONE, NEVER) else value
    if options.scope:
        body["scopes"] = options.scope
    for name, values in (("models", options.models), ("networks", options.network)):
        if values:
            body[name] = [] if ANY in values else values
    return body | limits_of(options, anew=anew)
