"""`llm-gateway migrate`: bring the database, and the functions in Redis, up to date."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.dev.places import CannotStart
from gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from gateway.state.libraries import Libraries

HELP = "bring the database up to this version's schema, and Redis to its functions (needs DATABASE_URL)"
REDIS_TIMEOUT_MS = 10_000
"""for one command to Redis: nobody waits for it"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Apply the migrations that the database does not have yet, each in one transaction, and with REDIS_URL load "
        "the functions into Redis, so that replicas need no right to do that. "
        "Any number may run at once; running it again changes nothing."
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="only remove the functions of other versions from Redis, once no replica and no worker runs them",
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    needed = "redis_url" if options.prune else "database_url"
    if not getattr(settings, needed):
        raise SettingsError([f"{needed.upper()} is not set: migrate needs it"])
    try:
        asyncio.run(_prune(settings) if options.prune else _bring_up(settings))
    except CannotStart as error:
        print(f"llm-gateway migrate: {error}", file=sys.stderr)
        return 1
    return 0


async def _bring_up(settings: Settings) -> None:
    """Says each thing when it is done. Raises `CannotStart`."""
    applied = await migrate(settings.database_url)
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date", flush=True)
    if settings.redis_url:
        async with _libraries(settings.redis_url) as libraries:
            print("\n".join(f"loaded {name} into Redis" for name in await libraries.load()))


async def _prune(settings: Settings) -> None:
    """Likewise."""
    async with _libraries(settings.redis_url) as libraries:
        removed = await libraries.prune()
    print("\n".join(f"removed {name} from Redis" for name in removed) or "Redis has no functions of other versions")


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


@asynccontextmanager
async def _libraries(redis_url: str) -> "AsyncIterator[Libraries]":
    """Raises `CannotStart` when Redis is away or says no."""
    from redis.exceptions import ResponseError

    from gateway.errors import LimitsUnavailable
    from gateway.state.cluster import pipe_to
    from gateway.state.libraries import Libraries

    pipe = pipe_to(redis_url, REDIS_TIMEOUT_MS)
    pipe.start()
    try:
        yield Libraries(pipe)
    except LimitsUnavailable:
        raise CannotStart("Redis does not answer, or does not know the user or password of REDIS_URL") from None
    except ResponseError as error:
        raise CannotStart(f"Redis refused: {error}") from None
    finally:
        await pipe.close()
