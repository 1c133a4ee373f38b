"""Redis and Postgres for the tests: in containers where a container engine answers, else the embedded servers.

The same tests run on both. `TESTS_EMBEDDED=1` takes the embedded ones without asking.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Protocol

from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.valkey import EmbeddedValkey

REDIS_IMAGE = "redis:7-alpine"
POSTGRES_IMAGE = "postgres:16-alpine"
REDIS_COMMAND = "redis-server --appendonly yes --save '' --maxmemory-policy noeviction"
ENGINE_WAIT_S = 2


class Server(Protocol):
    """What a test may expect of either kind."""

    @property
    def url(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class ContainerRedis:
    """Redis in a container, on a TCP port of this machine."""

    def __init__(self) -> None:
        from testcontainers.community.redis import RedisContainer

        self._container = RedisContainer(REDIS_IMAGE)
        self._container.with_command(REDIS_COMMAND)

    @property
    def url(self) -> str:
        return f"redis://{self._container.get_container_host_ip()}:{self._container.get_exposed_port(6379)}"

    async def start(self) -> None:
        self._container.start()

    async def stop(self) -> None:
        self._container.stop()


class ContainerPostgres:
    """Postgres in a container, on a TCP port of this machine."""

    def __init__(self) -> None:
        from testcontainers.community.postgres import PostgresContainer

        self._container = PostgresContainer(POSTGRES_IMAGE, dbname="gateway", driver=None)

    @property
    def url(self) -> str:
        return self._container.get_connection_url()

    async def start(self) -> None:
        self._container.start()

    async def stop(self) -> None:
        self._container.stop()


def container_engine_answers() -> bool:
    """Whether containers may be used: one short question to the engine, none with TESTS_EMBEDDED=1."""
    if os.environ.get("TESTS_EMBEDDED") == "1":
        return False
    try:
        import_module("docker").from_env(timeout=ENGINE_WAIT_S).ping()
    except Exception:  # whatever goes wrong: there is no engine for us
        return False
    return True


def redis_for_tests(containers: bool, directory: Path) -> Server:
    return ContainerRedis() if containers else EmbeddedValkey(directory)


def postgres_for_tests(containers: bool, directory: Path) -> Server:
    return ContainerPostgres() if containers else EmbeddedPostgres(directory, fsync=False)
