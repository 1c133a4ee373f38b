"""Whole systems for acceptance tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.dev.fake_ollama import FakeOllama
from tests.world import World, running

Start = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def database_url(migrated_url: str) -> str:
    return migrated_url


@pytest.fixture
def start(redis_url: str, database_url: str, short_dir: Path) -> Start:
    """`async with start(urls, replicas=…, workers=…, SETTING=…) as world`."""

    def begin(
        ollama_urls: list[str], *, replicas: int = 1, workers: int = 1, **env: str
    ) -> AbstractAsyncContextManager[World]:
        return running(World(redis_url, database_url, ollama_urls, short_dir, **env), replicas, workers)

    return begin


@pytest.fixture
async def world(start: Start, fake: FakeOllama) -> AsyncIterator[World]:
    """One replica, one worker, one node."""
    async with start([fake.url]) as one:
        yield one
