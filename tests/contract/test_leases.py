"""What the pipeline may rely on of leases: the fake keeps the same promises as the real ones on a real Redis."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.core.call import Bill, Call
from gateway.core.limits import Limits
from gateway.core.tally import Tally
from gateway.core.usage import Detail
from gateway.errors import GatewayError, LimitsUnavailable, ModelNotFound, NoBackend, RequestsLimited, Unauthorized
from gateway.ports import Leases
from gateway.state.leases import RedisLeases
from tests.fakes import STRANGER, Bench, FakeLeases, call, credential_of, refused

REQUESTS = 2


def nobody(reason: GatewayError) -> None:
    raise AssertionError("no lease is lost here")


class Held:
    """Leases of a key with so many requests, and the tokens of each settlement."""

    def __init__(self, leases: Leases, settled: Callable[[], list[int]]) -> None:
        self.leases = leases
        self.settled = settled

    def open(self, number: int = 1, objection: str = "", **changes: object) -> Awaitable[object]:
        one = call(number, **changes)
        return self.leases.open(one, Tally(one), nobody, objection)

    async def close(self, number: int = 1, tokens: int = 5) -> None:
        await self.leases.close(call(number), bill(tokens))


def bill(tokens: int) -> Bill:
    return Bill(prompt_tokens=0, completion_tokens=tokens, paid=True, estimated=False, whole=True, detail=Detail())


async def fake() -> AsyncIterator[Held]:
    leases = FakeLeases(requests=REQUESTS)
    yield Held(leases, lambda: [one.completion_tokens for one in leases.bills])


async def real(redis_url: str) -> AsyncIterator[Held]:
    bench = Bench(redis_url)
    await bench.publish(Limits(rate_limit_per_min=REQUESTS))
    yield Held(
        RedisLeases(bench.limiter, bench.failures, lambda: 0, lambda call: None, decision_ms=5_000),
        lambda: [int(event["completion"]) for event in bench.events()],
    )
    bench.close()


@pytest.fixture(params=["fake", "redis"])
async def held(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Held]:
    async for one in fake() if request.param == "fake" else real(redis_url):
        yield one


async def test_an_admitted_call_may_use_what_it_was_granted(held: Held) -> None:
    one = call(1)
    admission = await held.leases.open(one, Tally(one), nobody, "")
    assert 1 <= admission.output_tokens_max <= one.estimate.output_max
    assert admission.at_ms >= 0
    assert held.settled() == []


async def test_over_the_limit_is_refused_with_a_wait_and_holds_nothing(held: Held) -> None:
    for number in range(REQUESTS):
        await held.open(number)
    error = await refused(held.open(9))
    assert type(error) is RequestsLimited
    assert error.retry_after_s
    await held.close(9)
    assert held.settled() == []


async def test_a_closed_call_is_settled_once_with_its_bill(held: Held) -> None:
    await held.open()
    await held.close(tokens=5)
    await held.close(tokens=6)
    assert held.settled() == [5]


async def test_closing_what_was_never_open_settles_nothing_and_does_not_raise(held: Held) -> None:
    await held.close()
    assert held.settled() == []


async def test_each_call_is_settled_by_itself_in_any_order(held: Held) -> None:
    await held.open(1)
    await held.open(2)
    await held.close(2, tokens=2)
    assert held.settled() == [2]
    await held.close(1, tokens=1)
    assert held.settled() == [2, 1]


async def test_opening_an_open_call_again_takes_nothing_more(held: Held) -> None:
    first = await held.open(1)
    assert await held.open(1) == first
    await held.open(2)


async def test_a_call_that_has_ended_is_not_opened_again(held: Held) -> None:
    await held.open()
    await held.close()
    assert type(await refused(held.open())) is LimitsUnavailable


async def test_an_unknown_key_is_unauthorized_whatever_else_is_wrong(held: Held) -> None:
    for objection in ("", "no_backend", "model_not_found"):
        assert type(await refused(held.open(objection=objection, credential=credential_of(STRANGER)))) is Unauthorized


@pytest.mark.parametrize(("objection", "kind"), [("no_backend", NoBackend), ("model_not_found", ModelNotFound)])
async def test_an_objection_is_told_to_a_valid_key_and_costs_nothing(held: Held, objection: str, kind: type) -> None:
    for number in range(REQUESTS + 1):
        assert type(await refused(held.open(number, objection))) is kind
    for number in range(REQUESTS):
        await held.open(number)


async def test_progress_is_heard_without_waiting(held: Held) -> None:
    one = call(1)
    tally: Tally = Tally(one)
    await held.leases.open(one, tally, nobody, "")
    for _ in range(100):
        tally.saw_token(1)
        held.leases.progressed(tally)
    await held.close(tokens=100)
    assert held.settled() == [100]


def test_the_fake_is_what_the_pipeline_asks_for() -> None:
    leases: Leases = FakeLeases()
    one: Call = call(1)
    assert one.id
    assert leases
