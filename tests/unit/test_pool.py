"""One call over many backends: where it goes, when it is asked elsewhere, and whom a failure is held against."""

import asyncio
from typing import Any

import pytest
from msgspec import UNSET

from gateway.backends.pool import ATTEMPTS_MAX
from gateway.backends.rests import REST_MS
from gateway.core.breaker import FAULTS_MAX
from gateway.core.retries import RESERVE
from gateway.core.routing import Loaded
from gateway.core.tally import Counts
from gateway.dialects.ollama import GenerateRequest, Options
from gateway.errors import (
    BackendBusy,
    BackendFault,
    BackendTimeout,
    BackendUnreachable,
    GatewayError,
    LimitsUnavailable,
    ModelMissing,
    ModelNotFound,
    NoBackend,
    StreamBroken,
)
from tests.fake_replica import Replica
from tests.fakes import MODEL, turns

CRASH = BackendFault("The runner died.", elsewhere=True)


def fails(replica: Replica, *names: str, error: GatewayError, times: int = 1) -> None:
    for name in names:
        replica.client.scripts[name] += [error] * times


async def test_an_answer_costs_one_placement_and_gives_its_slot_back() -> None:
    replica = Replica()
    async with replica.exchange() as tally:
        assert (tally.backend, replica.placement.busy("a")) == ("a", 1)
    await replica.seats.settle()
    assert (replica.placement.held, replica.placement.verbs) == ({}, ["place", "leave"])


async def test_what_the_call_came_to_goes_with_its_slot() -> None:
    replica = Replica()
    async with replica.exchange() as tally:
        tally.completed(
            Counts(prompt_tokens=15, completion_tokens=7, load_ns=1_000_000, prompt_ns=2_000_000, eval_ns=9_000_000)
        )
    await replica.seats.settle()
    (left,) = replica.placement.left
    assert (left.tokens, left.prompt_tokens, left.prompt_ms, left.output_tokens) == (22, 15, 2.0, 7)
    assert (left.output_ms, left.load_ms, left.good) == (9.0, 1.0, True)


@pytest.mark.parametrize(
    "error", [BackendUnreachable(), BackendBusy(), ModelNotFound(elsewhere=True), CRASH], ids=lambda error: error.code
)
async def test_what_may_succeed_elsewhere_is_asked_elsewhere_once(error: GatewayError) -> None:
    replica = Replica()
    fails(replica, "a", error=error)
    assert (await replica.ask()).backend == "b"
    assert replica.client.asked == ["a", "b"]
    assert replica.observer.of("retried") == [(error.code,)]
    assert replica.placement.held == {}


@pytest.mark.parametrize("error", [BackendFault(), BackendTimeout(), StreamBroken()], ids=lambda error: error.code)
async def test_what_would_be_the_same_elsewhere_is_not(error: GatewayError) -> None:
    replica = Replica()
    fails(replica, "a", error=error)
    with pytest.raises(type(error)):
        await replica.ask()
    await replica.seats.settle()
    assert (replica.client.asked, replica.placement.held) == (["a"], {})


async def test_a_killing_prompt_is_offered_to_two_nodes_at_most() -> None:
    replica = Replica("a", "b", "c", "d")
    fails(replica, "a", "b", "c", "d", error=CRASH)
    with pytest.raises(BackendFault, match="died"):
        await replica.ask()
    assert len(replica.client.asked) == ATTEMPTS_MAX == 2
    assert len(set(replica.client.asked)) == 2


async def test_once_something_of_the_answer_was_seen_nothing_is_asked_again() -> None:
    replica = Replica()
    with pytest.raises(BackendUnreachable):
        async with replica.exchange():
            raise BackendUnreachable
    assert replica.client.asked == ["a"]


async def test_retries_are_a_tenth_of_all_calls_beyond_a_reserve() -> None:
    replica = Replica()
    calls = 200
    fails(replica, "a", "b", error=BackendBusy(), times=2 * calls)
    for number in range(calls):
        with pytest.raises(BackendBusy):
            await replica.ask(number)
        await replica.seats.settle()
    assert len(replica.client.asked) == calls + RESERVE + calls // 10


async def test_the_only_node_is_asked_again_when_it_could_not_be_reached() -> None:
    replica = Replica("a")
    fails(replica, "a", error=BackendUnreachable())
    async with replica.running():
        assert (await replica.ask()).backend == "a"
    assert replica.client.asked == ["a", "a"]


async def test_the_only_node_is_not_asked_again_when_it_is_busy() -> None:
    replica = Replica("a")
    fails(replica, "a", error=BackendBusy())
    with pytest.raises(BackendBusy):
        await replica.ask()
    assert replica.client.asked == ["a"]


@pytest.mark.parametrize(
    ("error", "node", "pair"),
    [
        (BackendUnreachable(), 1, 0), (BackendFault(), 0, 1), (BackendTimeout(), 0, 1), (StreamBroken(), 0, 1),
        (ModelMissing(), 0, 0), (BackendBusy(), 0, 0), (LimitsUnavailable(), 0, 0),
    ],
    ids=lambda one: getattr(one, "code", str(one)),
)  # fmt: skip
async def test_a_failure_is_held_against_whom_it_is_to_blame_on(error: GatewayError, node: int, pair: int) -> None:
    replica = Replica("a")
    fails(replica, "a", error=error, times=2)
    async with replica.running():
        with pytest.raises(type(error)):
            await replica.ask()
    await replica.seats.settle()
    times = len(replica.client.asked)
    assert (replica.breaker("a").failures, replica.breaker("a", MODEL).failures) == (node * times, pair * times)


async def test_a_node_that_fails_gets_no_calls_any_more() -> None:
    replica = Replica("a", "b")
    fails(replica, "a", error=BackendUnreachable(), times=100)
    for number in range(10):
        assert (await replica.ask(number, upstream=GenerateRequest(prompt=str(number)))).backend == "b"
        replica.tick(REST_MS)
    assert replica.client.asked.count("a") == FAULTS_MAX


async def test_a_node_that_has_just_failed_is_left_alone_for_a_moment() -> None:
    replica = Replica("a", "b")
    fails(replica, "a", error=BackendBusy())
    backends = []
    for number, ms in ((0, REST_MS - 1), (1, 1), (2, 0)):
        backends.append((await replica.ask(number, upstream=GenerateRequest(prompt=str(number)))).backend)
        replica.tick(ms)
    assert (replica.client.asked, backends) == (["a", "b", "b", "a"], ["b", "b", "a"])


async def test_a_client_that_leaves_holds_nothing_against_the_node() -> None:
    replica = Replica("a")
    replica.client.scripts["a"] = [asyncio.Event()]
    asking = asyncio.create_task(replica.ask())
    await turns(10)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await replica.seats.settle()
    assert (replica.placement.held, replica.view.breakers()) == ({}, {})


async def test_a_node_that_has_lost_the_model_is_looked_at() -> None:
    replica = Replica()
    fails(replica, "a", error=ModelNotFound(elsewhere=True))
    await replica.ask()
    assert replica.suspected == ["a"]


async def test_without_a_backend_or_redis_it_is_said() -> None:
    replica = Replica("a")
    replica.placement.away = True
    with pytest.raises(LimitsUnavailable):
        await replica.ask()
    replica.placement.away = False
    replica.saw("a", healthy=False)
    with pytest.raises(NoBackend):
        await replica.ask()


async def test_when_the_last_backend_fails_its_failure_is_told_and_not_that_there_is_none() -> None:
    replica = Replica("a")
    fails(replica, "a", error=CRASH)
    with pytest.raises(BackendFault, match="died"):
        await replica.ask()


@pytest.mark.parametrize(("asks", "sent"), [(None, 8_192), (4_096, 8_192), (16_384, 16_384)])
async def test_a_call_is_sent_with_the_context_that_is_loaded(asks: int | None, sent: int) -> None:
    replica = Replica("a")
    upstream = GenerateRequest(prompt="why?", options=Options(num_ctx=asks or UNSET))
    await replica.ask(upstream=upstream)
    body: Any = replica.client.sent[0][1].body
    assert b'"num_ctx":%d' % sent in body


async def test_a_cold_model_is_loaded_with_what_the_call_asks() -> None:
    replica = Replica("a", loaded=False)
    upstream = GenerateRequest(prompt="why?", options=Options(num_ctx=2_048))
    await replica.ask(upstream=upstream)
    assert b'"num_ctx":2048' in replica.client.sent[0][1].body
    assert replica.view.state("a").loaded == {}
    assert Loaded().context_tokens == 0
