"""Failures of an address, counted by Redis for all replicas and by each replica for what it sees alone."""

from typing import Any

import pytest

from gateway.core.limits import Limits
from gateway.errors import FailuresLimited, LimitsUnavailable, Unauthorized
from gateway.state import failures as failures_module
from gateway.state.failures import Failures
from gateway.state.functions import Functions, source
from gateway.state.inspector import RedisInspector
from tests.fakes import SOURCE, STRANGER, Bench, clocked, credential_of, refused

PER_MIN = 6
OTHER = "0" * 31 + "1"
SECOND_US = 1_000_000


def failures(bench: Bench, functions: Functions | None = None, **changes: Any) -> Failures:
    """Those of one replica, whose own clock goes with Redis'."""
    return Failures(functions or bench.functions, 1, lambda: bench.now_us // 1_000, per_min=PER_MIN, **changes)


async def heard(one: Failures, source: str = SOURCE) -> bool:
    return type(await one.failed(source, Unauthorized())) is Unauthorized


async def test_so_many_a_minute_are_heard_out_over_all_replicas(bench: Bench) -> None:
    one, other = failures(bench), failures(bench)
    assert [await heard(replica) for replica in (one, other) * 4] == [True] * PER_MIN + [False] * 2
    error = await one.failed(SOURCE, Unauthorized())
    assert (type(error), error.retry_after_s) == (FailuresLimited, 10)
    assert await heard(one, OTHER), "another address is another matter"
    bench.tick(10 * SECOND_US - 1_000)
    assert not await heard(one)
    bench.tick(1_000)
    assert await heard(other)
    assert not await heard(one)


async def test_asking_counts_nothing(bench: Bench) -> None:
    one = failures(bench)
    for _ in range(3 * PER_MIN):
        await one.check(SOURCE)
    assert bench.everything().keys() == {b"{s00}:clock"}
    for _ in range(PER_MIN):
        assert await heard(one)
    with pytest.raises(FailuresLimited):
        await failures(bench).check(SOURCE)


async def test_one_sort_of_failure_is_not_another(bench: Bench) -> None:
    keys, admins = failures(bench), failures(bench, kind="admin:")
    for _ in range(PER_MIN):
        assert await heard(admins)
    assert not await heard(admins)
    assert await heard(keys)


async def test_what_is_counted_is_forgotten_when_it_no_longer_counts(bench: Bench) -> None:
    await heard(failures(bench))
    (name,) = bench.redis.keys("*failures*")
    assert 0 < bench.redis.pttl(name) <= 11_000


def test_a_replica_counts_what_it_sees_alone(bench: Bench) -> None:
    one = failures(bench)
    answers = [type(one.failed_here(SOURCE, Unauthorized())) for _ in range(PER_MIN + 2)]
    assert answers == [Unauthorized] * PER_MIN + [FailuresLimited] * 2
    assert type(one.failed_here(OTHER, Unauthorized())) is Unauthorized
    bench.tick(10 * SECOND_US)
    assert type(one.failed_here(SOURCE, Unauthorized())) is Unauthorized
    assert type(one.failed_here(SOURCE, Unauthorized())) is FailuresLimited


async def test_a_flood_of_refused_failures_costs_redis_nothing(bench: Bench) -> None:
    one = failures(bench)
    while await heard(one):
        pass
    before = bench.redis.info("commandstats")["cmdstat_fcall"]["calls"]
    for _ in range(100):
        assert not await heard(one)
    assert bench.redis.info("commandstats")["cmdstat_fcall"]["calls"] == before


def test_a_replica_remembers_a_bounded_number_of_addresses(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures_module, "ADDRESSES_MAX", 10)
    one = failures(bench)
    for number in range(50):
        one.failed_here(f"{int(SOURCE, 16) + number:032x}", Unauthorized())
    assert len(one._seen) == 10


async def test_a_subscriber_of_ipv6_is_one_address_however_many_it_has(bench: Bench) -> None:
    one, network = failures(bench), "20010db800000001"
    assert [await heard(one, f"{network}{number:016x}") for number in range(PER_MIN + 1)] == [True] * PER_MIN + [False]
    assert await heard(one, f"20010db800000002{0:016x}")
    here = failures(bench)
    answers = [type(here.failed_here(f"{network}{number:016x}", Unauthorized())) for number in range(PER_MIN + 1)]
    assert answers == [Unauthorized] * PER_MIN + [FailuresLimited]


class Away:
    """A Redis that does not answer."""

    async def call(self, *command: Any) -> Any:
        raise LimitsUnavailable


async def test_while_redis_is_away_a_failure_is_told_as_what_it_is(bench: Bench) -> None:
    one = failures(bench, Functions(Away()))
    for _ in range(3 * PER_MIN):
        await one.check(SOURCE)
        assert await heard(one)


async def test_what_was_remembered_holds_while_redis_is_away(bench: Bench) -> None:
    class Leaving:
        away = False

        async def call(self, *command: Any) -> Any:
            if self.away:
                raise LimitsUnavailable
            return await bench.call(*command)

    redis = Leaving()
    one = failures(bench, Functions(redis, clocked(source())))
    while await heard(one):
        pass
    redis.away = True
    assert not await heard(one)


async def test_an_unknown_key_counts_against_its_address_when_it_looks_at_itself(bench: Bench) -> None:
    await bench.publish(Limits())
    inspector = RedisInspector(bench.functions, 1, failures(bench))
    answers = [type(await refused(inspector.inspect(credential_of(STRANGER), SOURCE))) for _ in range(PER_MIN + 1)]
    assert answers == [Unauthorized] * PER_MIN + [FailuresLimited]
