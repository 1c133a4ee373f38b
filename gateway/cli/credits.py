"""`llm-gateway credits`: the ledger of what was granted."""

import argparse
from typing import Any
from uuid import uuid4

from gateway.cli import command
from gateway.cli.admin import OK, Admin, Answer
from gateway.cli.amounts import amount, credits, plain
from gateway.cli.command import Actions, Options, given
from gateway.cli.moments import minute
from gateway.cli.refused import Refused
from gateway.cli.table import table

HELP = "grant credits, show the ledger (needs a running gateway and its admin secret)"
CREDITS = "/credits"
HEAD = ("GRANT", "TO", "CREDITS", "BY", "NOTE", "AT (UTC)")

run = command.run


def add(parser: argparse.ArgumentParser) -> None:
    actions = Actions(
        parser, "Manage credits over HTTP. What is left of them is all that was granted less all that was charged."
    )
    grant = actions.add(
        "grant",
        "give a key or a team credits, or take some back with a negative number",
        _grant,
        _granted,
        example="llm-gateway credits grant --key 7hXm2kQz9A --credits 100 --id invoice-2027-014",
    )
    _add_owner(grant, required=True)
    grant.add_argument("--credits", type=amount, required=True, metavar="N", help="how many")
    grant.add_argument("--note", help="what for")
    grant.add_argument("--id", help="the grant's own id: the same one is never granted twice (default: a new one)")
    listing = actions.add("list", "show the ledger, newest first", _list, _listed, example="llm-gateway credits list")
    _add_owner(listing)


def _add_owner(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    owner = parser.add_mutually_exclusive_group(required=required)
    owner.add_argument("--key", dest="key_id", metavar="ID", help="of this key")
    owner.add_argument("--team", dest="team_id", metavar="ID", help="of this team")


def _grant(admin: Admin, options: Options) -> Answer:
    """A grant that may have been made all the same can be sent again under its id, so it is told then."""
    body = given(options, "key_id", "team_id", "credits", "note") | {"id": options.id or f"cli-{uuid4()}"}
    try:
        answer = admin.ask("POST", CREDITS, body=body)
    except Refused as refused:
        if not refused.unsure:
            raise
        again = f"the grant's id is {body['id']}: with --id it can be sent again, and is made once"
        raise Refused(f"{refused}\n{again}", unsure=True) from None
    options.again = answer.status == OK
    return answer


def _list(admin: Admin, options: Options) -> Answer:
    return admin.pages(CREDITS, given(options, "key_id", "team_id"))


def _granted(said: Any, options: Options) -> str:
    if options.again:
        return f"grant {said['id']} was made before: nothing has changed"
    return f"granted {credits(said['credits'])} to {owner(said)}, id {said['id']}"


def _listed(said: Any, options: Options) -> str:
    return table(HEAD, [_row(grant) for grant in said["data"]])


def _row(grant: Any) -> tuple[Any, ...]:
    number, at = plain(grant["credits"]), minute(grant["created_at"])
    return grant["id"], owner(grant), number, grant["granted_by"], grant["note"], at


def owner(said: Any) -> str:
    return f"key {said['key_id']}" if said.get("key_id") else f"team {said['team_id']}"
