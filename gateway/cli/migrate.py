"""`llm-gateway migrate`: bring the database up to date."""

import argparse
import asyncio
import sys

from gateway.dev.places import CannotStart
from gateway.settings import Settings, SettingsError

HELP = "bring the database up to this version's schema (needs DATABASE_URL)"


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Apply the migrations that the database does not have yet, each in one transaction. "
        "Any number may run at once; running it again changes nothing."
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    if not settings.database_url:
        raise SettingsError(["DATABASE_URL is not set: migrate needs it"])
    try:
        applied = asyncio.run(migrate(settings.database_url))
    except CannotStart as error:
        print(f"llm-gateway migrate: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
    return 0


async def migrate(database_url: str) -> list[str]:
    """The names of what was applied. Raises `CannotStart` when the database cannot be reached or does not fit."""
    from gateway.admin.postgres import Refused
    from gateway.errors import GatewayError
    from workers.migrate import MigrationRefused
    from workers.migrate import migrate as apply

    try:
        return await apply(database_url)
    except (MigrationRefused, Refused, GatewayError) as error:
        raise CannotStart(str(error)) from error
