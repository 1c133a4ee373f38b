"""What the tests of the Redis functions share."""

from collections.abc import Iterator

import pytest

from tests.fakes import Bench
from tests.fleets import FleetBench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    """The functions on a clock that the test moves."""
    one = Bench(redis_url)
    keep_order(one)
    yield one
    one.close()


@pytest.fixture
def fleet(redis_url: str) -> Iterator[FleetBench]:
    """The fleet's functions, likewise."""
    one = FleetBench(redis_url)
    yield one
    one.close()


def keep_order(bench: Bench) -> None:
    """Hashes stay lists, so that reading one cannot change its dump: a table is rehashed while it is read."""
    for name in ("hash-max-listpack-entries", "hash-max-listpack-value"):
        bench.redis.config_set(name, 10_000)
