"""What the real leases do beyond the contract: keep owing while Redis is away, undo what is in doubt, renew in time."""

import asyncio
from typing import Any

import pytest

from gateway.core.call import Admission, Bill, Call, Levels
from gateway.core.tally import Tally
from gateway.core.usage import Detail
from gateway.errors import (
    FailuresLimited,
    GatewayError,
    KeyRevoked,
    KeysNotLoaded,
    LeaseLost,
    LimitsUnavailable,
    MeteringBacklog,
    RequestsLimited,
    Unauthorized,
)
from gateway.state import leases as leases_module
from gateway.state.leases import RENEW_MS, RENEW_TOKENS, RedisLeases
from tests.fakes import SOURCE, call, turns

DECISION_MS = 5_000
BILL = Bill(prompt_tokens=1, completion_tokens=2, paid=True, estimated=False, whole=True, detail=Detail())


class Limiter:
    """A Redis that may be away, as the limiter tells of it. Keeps what reached it."""

    def __init__(self) -> None:
        self.verdict: Exception | None = None
        self.away = False
        self.alive = True
        """whether a settlement finds the lease open"""
        self.lost: type[GatewayError] | None = None
        """what a renewal says"""
        self.held: asyncio.Event | None = None
        self.done: list[tuple[str, str]] = []
        self.renewed = asyncio.Event()

    async def admit(self, one: Call, objection: str, detail: bytes) -> Admission:
        if self.verdict:
            raise self.verdict
        return Admission(at_ms=0, output_tokens_max=9, levels=Levels())

    async def settle(self, one: Call, bill: Bill) -> bool:
        await self._reach("settle", one)
        return self.alive

    async def void(self, one: Call) -> None:
        await self._reach("void", one)

    async def renew(self, one: Call, prompt: int, completion: int) -> type[GatewayError] | None:
        await self._reach(f"renew {prompt} {completion}", one)
        self.renewed.set()
        return self.lost

    async def _reach(self, what: str, one: Call) -> None:
        if self.held:
            await self.held.wait()
        if self.away:
            raise LimitsUnavailable
        self.done.append((what, one.id))


class Blamed:
    """Failures of addresses, all of which are heard out or none."""

    def __init__(self) -> None:
        self.of: list[str] = []
        self.too_many = False

    async def failed(self, source: str, error: GatewayError) -> GatewayError:
        self.of.append(source)
        return FailuresLimited(retry_after_s=3) if self.too_many else error


class World:
    def __init__(self) -> None:
        self.now_ms = 0
        self.late: list[Call] = []
        self.cuts: list[GatewayError] = []
        self.limiter = Limiter()
        limiter: Any = self.limiter
        self.failures = Blamed()
        failures: Any = self.failures
        self.leases = RedisLeases(limiter, failures, lambda: self.now_ms, self.late.append, decision_ms=DECISION_MS)

    async def open(self, number: int = 1) -> Tally:
        tally = Tally(call(number))
        await self.leases.open(call(number), tally, self.cuts.append, "")
        return tally


@pytest.fixture
def world() -> World:
    return World()


async def test_a_bill_waits_while_redis_is_away_and_is_settled_once_when_it_is_back(world: World) -> None:
    await world.open()
    world.limiter.away = True
    await world.leases.close(call(1), BILL)
    await world.leases.settle_waiting()
    assert (world.leases.unsettled, world.leases.running, world.limiter.done) == (1, 0, [])
    world.limiter.away = False
    for _ in range(2):
        await world.leases.settle_waiting()
    assert (world.leases.unsettled, world.limiter.done) == (0, [("settle", call(1).id)])


async def test_an_admission_without_an_answer_is_undone_when_redis_is_back(world: World) -> None:
    world.limiter.verdict = LimitsUnavailable()
    with pytest.raises(LimitsUnavailable):
        await world.open()
    assert (world.leases.unsettled, world.leases.running) == (1, 0)
    await world.leases.settle_waiting()
    assert (world.leases.unsettled, world.limiter.done) == (0, [("void", call(1).id)])


@pytest.mark.parametrize(
    "verdict", [RequestsLimited(), KeysNotLoaded(), MeteringBacklog(), Unauthorized()], ids=lambda error: error.code
)
async def test_a_verdict_leaves_nothing_to_undo(world: World, verdict: Exception) -> None:
    world.limiter.verdict = verdict
    with pytest.raises(type(verdict)):
        await world.open()
    assert world.leases.unsettled == 0


async def test_a_key_that_is_unknown_is_counted_against_its_address(world: World) -> None:
    world.limiter.verdict = Unauthorized()
    with pytest.raises(Unauthorized):
        await world.open()
    world.failures.too_many = True
    with pytest.raises(FailuresLimited):
        await world.open()
    assert world.failures.of == [SOURCE, SOURCE]


@pytest.mark.parametrize("verdict", [RequestsLimited(), KeysNotLoaded(), LimitsUnavailable()], ids=lambda e: e.code)
async def test_a_key_that_is_refused_for_anything_else_is_not(world: World, verdict: Exception) -> None:
    world.limiter.verdict = verdict
    with pytest.raises(type(verdict)):
        await world.open()
    assert world.failures.of == []


async def test_two_rounds_at_once_settle_each_call_and_fail_at_none(world: World) -> None:
    """The replica's last round, at shutdown, overlaps with the one that is under way."""
    world.limiter.away = True
    await world.leases.close(call(1), BILL)
    world.limiter.verdict = LimitsUnavailable()
    with pytest.raises(LimitsUnavailable):
        await world.open(2)
    world.limiter.away, world.limiter.held = False, asyncio.Event()
    rounds = [asyncio.create_task(world.leases.settle_waiting()) for _ in range(2)]
    await turns(5)
    world.limiter.held.set()
    await asyncio.gather(*rounds)
    assert world.leases.unsettled == 0


async def test_what_is_owed_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "UNSETTLED_CALLS_MAX", 3)
    world.limiter.away = True
    world.limiter.verdict = LimitsUnavailable()
    for number in range(9):
        await world.leases.close(call(number), BILL)
        with pytest.raises(LimitsUnavailable):
            await world.open(100 + number)
    assert world.leases.unsettled == 3


async def test_many_debts_are_paid_in_bounded_groups(world: World) -> None:
    world.limiter.away = True
    for number in range(3 * leases_module.AT_ONCE_MAX):
        await world.leases.close(call(number), BILL)
    world.limiter.away, world.limiter.held = False, asyncio.Event()
    paying = asyncio.create_task(world.leases.settle_waiting())
    await turns(5)
    assert len(asyncio.all_tasks()) <= leases_module.AT_ONCE_MAX + 2
    world.limiter.held.set()
    await paying
    assert world.leases.unsettled == 0


async def test_a_lease_is_renewed_every_so_often_and_every_so_many_tokens(world: World) -> None:
    tally = await world.open()
    await world.leases._renew_due()
    assert world.limiter.done == []
    tally.backend = "node"
    tally.sent(0)
    for _ in range(RENEW_TOKENS):
        tally.saw_token(1)
    await world.leases._renew_due()
    world.now_ms = RENEW_MS - 1
    await world.leases._renew_due()
    world.now_ms = 2 * RENEW_MS - 1
    await world.leases._renew_due()
    assert world.limiter.done == [(f"renew 10 {RENEW_TOKENS}", call(1).id)] * 2


async def test_a_renewal_that_did_not_arrive_is_made_again(world: World) -> None:
    await world.open()
    world.now_ms, world.limiter.away = RENEW_MS, True
    await world.leases._renew_due()
    world.limiter.away = False
    await world.leases._renew_due()
    assert world.limiter.done == [("renew 0 0", call(1).id)]


async def test_the_lease_hears_of_tokens_soon_without_waiting_for_the_next_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "ROUND_S", 3_600.0)
    monkeypatch.setattr(leases_module, "ROUND_S_MIN", 0.0)
    running = asyncio.create_task(world.leases.run())
    tally = await world.open()
    await turns(5)
    for _ in range(RENEW_TOKENS):
        tally.saw_token(1)
        world.leases.progressed(tally)
    async with asyncio.timeout(5):
        await world.limiter.renewed.wait()
    running.cancel()


async def test_a_closed_call_is_not_renewed(world: World) -> None:
    await world.open()
    await world.leases.close(call(1), BILL)
    world.now_ms = 10 * RENEW_MS
    await world.leases._renew_due()
    assert world.limiter.done == [("settle", call(1).id)]


@pytest.mark.parametrize("lost", [LeaseLost, KeyRevoked])
async def test_a_call_that_has_to_end_is_cut_and_not_when_it_has_ended_meanwhile(
    world: World, lost: type[GatewayError]
) -> None:
    world.limiter.lost = lost
    await world.open()
    world.now_ms = RENEW_MS
    await world.leases._renew_due()
    assert [type(reason) for reason in world.cuts] == [lost]
    world.limiter.held = asyncio.Event()
    renewing = asyncio.create_task(world.leases._renew_due())
    await turns(3)
    closing = asyncio.create_task(world.leases.close(call(1), BILL))
    await turns(3)
    world.limiter.held.set()
    await asyncio.gather(renewing, closing)
    assert len(world.cuts) == 1


async def test_a_call_that_somebody_else_has_settled_is_told_of(world: World) -> None:
    await world.open()
    world.limiter.alive = False
    await world.leases.close(call(1), BILL)
    assert [one.id for one in world.late] == [call(1).id]
    assert world.leases.unsettled == 0


async def test_a_flush_ends_when_all_is_settled_or_its_time_is_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "ROUND_S", 0.0)
    world.limiter.away = True
    await world.leases.close(call(1), BILL)
    await world.leases.flush(0.01)
    assert world.leases.unsettled == 1
    flushing = asyncio.create_task(world.leases.flush(60))
    await turns(5)
    world.limiter.away = False
    async with asyncio.timeout(5):
        await flushing
    assert world.leases.unsettled == 0
