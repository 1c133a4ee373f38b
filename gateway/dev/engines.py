"""Redis and Postgres for the tests: in containers where a container engine answers, else the embedded servers.

The same tests run on both. `TESTS_EMBEDDED=1` takes the embedded ones without asking.
"""

import os
import secrets
from importlib import import_module
from pathlib import Path
from typing import Protocol

from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.valkey import EmbeddedValkey

REDIS_IMAGE = "redis:8-bookworm"
POSTGRES_IMAGE = "postgres:18-bookworm"
REDIS_COMMAND = "redis-server --appendonly yes --save '' --maxmemory-policy noeviction"
ENGINE_WAIT_S = 2
PULL_WAIT_S = 120


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

        self._password = secrets.token_urlsafe(16)  # the engine may publish the port to the network
        self._container = RedisContainer(REDIS_IMAGE, password=self._password)
        self._container.with_command(f"{REDIS_COMMAND} --requirepass {self._password}")

    @property
    def url(self) -> str:
        container = self._container
        return f"redis://:{self._password}@{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"

    async def start(self) -> None:
        self._container.start()

    async def stop(self) -> None:
        self._container.stop()


class ContainerPostgres:
    """Postgres in a container, on a TCP port of this machine."""

    def __init__(self) -> None:
        from testcontainers.community.postgres import PostgresContainer

        password = secrets.token_urlsafe(16)  # likewise
        self._container = PostgresContainer(POSTGRES_IMAGE, password=password, dbname="gateway", driver=None)

    @property
    def url(self) -> str:
        return self._container.get_connection_url()

    async def start(self) -> None:
        self._container.start()

    async def stop(self) -> None:
        self._container.stop()


def without_ryuk() -> None:
    """The fixtures stop what they started; testcontainers' own clean-up would want one more image."""
    import_module("testcontainers.core.config").testcontainers_config.ryuk_disabled = True


def container_engine_answers() -> bool:
    """Whether containers may be used: an engine answers at once and has both images, or can get them.

    TESTS_EMBEDDED=1 asks nobody.
    """
    if os.environ.get("TESTS_EMBEDDED") == "1":
        return False
    try:
        engine = import_module("docker").from_env(timeout=ENGINE_WAIT_S)
        engine.ping()
        held = {tag for image in engine.images.list() for tag in image.tags}
        for image in {REDIS_IMAGE, POSTGRES_IMAGE} - held:
            import_module("docker").from_env(timeout=PULL_WAIT_S).images.pull(image)
    except Exception:  # whatever goes wrong: there is no engine for us
        return False
    without_ryuk()
    return True


def redis_for_tests(containers: bool, directory: Path) -> Server:
    """Without its file, which a quarter of its time goes into: no test starts this server again."""
    return ContainerRedis() if containers else EmbeddedValkey(directory, more={"appendonly": "no"})


def postgres_for_tests(containers: bool, directory: Path) -> Server:
    return ContainerPostgres() if containers else EmbeddedPostgres(directory, fsync=False)
