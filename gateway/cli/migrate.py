"""`llm-gateway migrate`: bring the database up to date."""

import argparse
import asyncio
import sys

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
    from gateway.errors import GatewayError
    from workers.migrate import MigrationRefused

    try:
        applied = asyncio.run(migrate(settings.database_url))
    except (MigrationRefused, GatewayError) as error:
        print(error, file=sys.stderr)
        return 1
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("the database is up to date")
    return 0


async def migrate(database_url: str) -> list[str]:
    """The names of what was applied."""
    from workers.migrate import migrate as apply

    return await apply(database_url)
