"""Users of a database who are in this group or that, for tests of what they may do."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

APP, WORKER, READER = "gateway_app", "gateway_worker", "dashboard_reader"
GROUPS = (APP, WORKER, READER)


def url_as(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{password}@{host}").geturl()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def user_in(database_url: str, group: str | None) -> AsyncIterator[str]:
    """A user that may log in and is in that group; its URL."""
    name, password = f"user_{secrets.token_hex(4)}", secrets.token_hex(8)
    async with connected(database_url) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        if group:
            await connection.execute(f"GRANT {group} TO {name}")
        try:
            yield url_as(database_url, name, password)
        finally:
            await connection.execute(f"DROP OWNED BY {name}")
            await connection.execute(f"DROP ROLE {name}")
