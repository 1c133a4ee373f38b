"""How an ejected node comes back: by generating one token, in a slot like any call, and by nothing else."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from gateway.backends import trials as trials_module
from gateway.backends.view import Listing
from gateway.core.breaker import FAULTS_MAX, Breaker, ejected
from gateway.core.placing import Left
from gateway.core.routing import Model
from tests.fake_nodes import said
from tests.fake_replica import Replica
from tests.fakes import MODEL, turns

EMBEDDER = "embed:latest"


async def ejected_at(model: str, **more: Any) -> Replica:
    replica = Replica("a", **more)
    for _ in range(FAULTS_MAX):
        await replica.breakers.tell("a", model, "fault", replica.placement.now_ms)
    replica.tick(20_000)
    await replica.sync()
    return replica


def body(request: httpx.Request) -> Any:
    return msgspec.json.decode(request.content)


@pytest.mark.parametrize("model", [MODEL, "*"])
async def test_one_token_brings_it_back(model: str) -> None:
    replica = await ejected_at(model)
    await replica.trials.hold("a", model, "t1")
    (request,) = replica.requests
    assert (request.url.path, body(request)["model"], body(request)["options"]["num_predict"]) == (
        "/api/generate", MODEL, 1,
    )  # fmt: skip
    assert body(request)["options"]["num_ctx"] == 8_192, "a trial reloads nothing"
    assert not ejected(replica.breaker("a", model))
    assert replica.observer.of("returned") == [("a", model)]
    await replica.seats.settle()
    assert replica.placement.held == {}


@pytest.mark.parametrize(
    "answer", [httpx.Response(500), httpx.ReadTimeout("slow"), httpx.ConnectError("refused"), httpx.Response(503)],
    ids=["500", "timeout", "connect", "503"],
)  # fmt: skip
async def test_a_trial_in_vain_leaves_it_away(answer: httpx.Response | Exception) -> None:
    replica = await ejected_at(MODEL)

    def fails(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    replica.answer = fails
    before = replica.breaker("a", MODEL)
    await replica.trials.hold("a", MODEL, "t1")
    after = replica.breaker("a", MODEL)
    assert ejected(after)
    assert (after.ejections, after.recycled) == (before.ejections, True), "a silent model is unloaded, once"
    replica.tick(20_000)
    await replica.seats.settle()
    await replica.sync()
    await replica.trials.hold("a", MODEL, "t2")
    assert len(replica.requests) == 3, "two trials, and it was unloaded between them"
    assert replica.observer.of("recycled") == [("a", MODEL)]
    await replica.seats.settle()
    assert replica.placement.held == {}


async def test_where_all_slots_are_taken_the_trial_waits_as_calls_do_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials_module, "POLL_S", 0.001)
    replica = await ejected_at(MODEL)
    await replica.placement.hold([("runs", "a", MODEL, "k", False)])
    trying = asyncio.create_task(replica.trials.hold("a", MODEL, "t1"))
    await turns(10)
    assert (replica.requests, set(replica.placement.waiting)) == ([], {"t1"})
    await replica.placement.leave([Left(id="runs")])
    async with asyncio.timeout(5):
        await trying
    assert not ejected(replica.breaker("a", MODEL))

    monkeypatch.setattr(trials_module, "WAIT_S_MAX", 0.01)
    other = await ejected_at(MODEL)
    await other.placement.hold([("runs", "a", MODEL, "k", False)])
    await other.trials.hold("a", MODEL, "t1")
    await other.seats.settle()
    assert (other.requests, other.placement.waiting) == ([], {})
    assert ejected(other.breaker("a", MODEL))


async def test_of_two_replicas_that_have_the_turn_one_tries() -> None:
    replica = await ejected_at(MODEL)
    for trial in ("t1", "t2"):
        replica.answer = lambda request: httpx.Response(500)
        await replica.trials.hold("a", MODEL, trial)
    assert (
        sum(request.url.path == "/api/generate" and b"prompt" in request.content for request in replica.requests) == 1
    )


async def test_while_it_is_tried_it_holds_a_slot() -> None:
    replica = await ejected_at(MODEL)
    busy: list[int] = []

    def looked(request: httpx.Request) -> httpx.Response:
        busy.append(replica.placement.busy("a"))
        return said()

    replica.answer = looked
    await replica.trials.hold("a", MODEL, "t1")
    assert busy == [1]


async def test_a_whole_node_is_tried_with_one_or_another_of_what_makes_text() -> None:
    """Not always the same: it may be what is broken."""
    tried = set()
    for number in range(20):
        replica = await ejected_at("*")
        models = replica.view.listing("a").models | {
            "small:latest": Model("small", size_bytes=1),
            "broken:latest": Model("broken"),
            EMBEDDER: Model("embed", capabilities=frozenset({"embedding"})),
        }
        replica.view.saw("a", replica.view.state("a"), Listing(models))
        replica.view.judged("a", "broken:latest", Breaker(failures=3, ejections=1, until_ms=1))
        await replica.trials.hold("a", "*", f"t{number}")
        tried.add(body(replica.requests[0])["model"])
    assert tried == {MODEL, "small"}


async def test_a_model_that_makes_no_text_is_tried_with_what_it_makes() -> None:
    replica = await ejected_at(EMBEDDER)
    embedder = Model("embed", capabilities=frozenset({"embedding"}))
    replica.view.saw("a", replica.view.state("a"), Listing({EMBEDDER: embedder}))
    await replica.trials.hold("a", EMBEDDER, "t1")
    assert replica.requests[0].url.path == "/api/embed"
    assert not ejected(replica.breaker("a", EMBEDDER))


async def test_what_has_gone_is_not_tried_and_without_redis_nothing_is() -> None:
    replica = await ejected_at(MODEL)
    await replica.trials.hold("gone", MODEL, "t1")
    await replica.trials.hold("a", "gone:latest", "t2")
    replica.placement.away = True
    await replica.trials.hold("a", MODEL, "t3")
    assert replica.requests == []
