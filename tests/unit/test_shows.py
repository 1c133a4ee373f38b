"""Who waits for whom when many ask what models are. The nodes answer when the test lets them."""

import asyncio
import json
from collections import Counter, defaultdict

import httpx
import pytest
from msgspec.structs import replace

from gateway.backends.shows import CLIENTS_AT_ONCE, LEARNERS, Shows
from gateway.core.fleet import Node
from gateway.core.routing import Details, Model
from tests.fake_nodes import Answered
from tests.fakes import turns

SICK, WELL = Node(name="sick", url="http://sick:1"), Node(name="well", url="http://well:1")
TURNS = 50


class Nodes:
    """Two nodes behind one transport; the sick one answers once `recovered` is set."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.open: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.recovered = asyncio.Event()
        self.status: dict[str, int] = defaultdict(lambda: 200)
        self.shows = Shows(Answered(self))

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        host, name = request.url.host, json.loads(request.content)["model"]
        self.asked[host, name] += 1
        self.open[host] += 1
        self.peak[host] = max(self.peak[host], self.open[host])
        try:
            if host == "sick":
                await self.recovered.wait()
            body = json.dumps({"license": name}).encode()
            return httpx.Response(self.status[host], stream=httpx.ByteStream(body))
        finally:
            self.open[host] -= 1

    def ask(self, node: Node, *names: str) -> list["asyncio.Task[object]"]:
        return [asyncio.create_task(self.shows.of(node, model(name))) for name in names]


def model(name: str) -> Model:
    return Model(name, digest=f"digest of {name}")


async def test_what_is_known_needs_no_turn() -> None:
    nodes = Nodes()
    await nodes.shows.of(WELL, model("known"))
    waiting = nodes.ask(SICK, *map(str, range(10 * CLIENTS_AT_ONCE)))
    await turns(TURNS)
    shown = await nodes.shows.of(SICK, model("known"))
    assert shown.license == "known"
    await end(nodes, waiting)


async def test_identical_questions_are_one_request() -> None:
    nodes = Nodes()
    asking = nodes.ask(SICK, *["same"] * 40)
    learning = asyncio.create_task(nodes.shows.learn(SICK, [model("same")]))
    await turns(TURNS)
    nodes.recovered.set()
    assert {one.license for one in await asyncio.gather(*asking)} == {"same"}  # type: ignore[attr-defined]
    await learning
    assert nodes.asked == {("sick", "same"): 1}


async def test_who_stops_waiting_ends_it_for_nobody_else() -> None:
    nodes = Nodes()
    first, second = nodes.ask(SICK, "same", "same")
    await turns(TURNS)
    first.cancel()
    await turns(TURNS)
    nodes.recovered.set()
    assert (await second).license == "same"  # type: ignore[attr-defined]
    assert nodes.asked == {("sick", "same"): 1}


async def test_a_failure_is_told_to_all_who_wait_and_then_asked_again() -> None:
    nodes = Nodes()
    nodes.status["sick"] = 500
    asking = nodes.ask(SICK, "same", "same")
    await turns(TURNS)
    nodes.recovered.set()
    assert [type(one) for one in await asyncio.gather(*asking, return_exceptions=True)] == [httpx.HTTPStatusError] * 2
    nodes.status["sick"] = 200
    assert (await nodes.shows.of(SICK, model("same"))).license == "same"


async def test_a_node_that_hangs_holds_up_no_other() -> None:
    """Not even for a model that both have and that is being asked of the one that hangs."""
    nodes = Nodes()
    waiting = nodes.ask(SICK, "both", *map(str, range(10 * CLIENTS_AT_ONCE)))
    await turns(TURNS)
    assert nodes.peak["sick"] == CLIENTS_AT_ONCE
    async with asyncio.timeout(5):
        assert (await nodes.shows.of(WELL, model("other"))).license == "other"
        assert (await nodes.shows.of(WELL, model("both"))).license == "both"
    await end(nodes, waiting)


async def test_a_turn_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes()
    waiting = nodes.ask(SICK, *map(str, range(CLIENTS_AT_ONCE)))
    await turns(TURNS)
    monkeypatch.setattr("gateway.backends.shows.TURN_S", 0.01)
    with pytest.raises(TimeoutError):
        await nodes.shows.of(SICK, model("late"))
    await end(nodes, waiting)


async def test_clients_do_not_starve_a_prober() -> None:
    """All turns of clients are taken, and others wait for theirs: one of them for a model that is to be learnt."""
    nodes = Nodes()
    waiting = nodes.ask(SICK, *map(str, range(CLIENTS_AT_ONCE)), "queued")
    await turns(TURNS)
    assert nodes.open["sick"] == CLIENTS_AT_ONCE
    new = [model(name) for name in ("queued", "a", "b")]
    learning = asyncio.create_task(nodes.shows.learn(SICK, new))
    await turns(TURNS)
    assert nodes.open["sick"] == CLIENTS_AT_ONCE + LEARNERS
    assert (nodes.asked["sick", "a"], nodes.asked["sick", "b"]) == (1, 1)
    nodes.recovered.set()
    await learning
    await asyncio.gather(*waiting)
    assert nodes.asked["sick", "queued"] == 1


async def test_closing_ends_what_is_being_asked() -> None:
    nodes = Nodes()
    waiting = nodes.ask(SICK, *map(str, range(2 * CLIENTS_AT_ONCE)))
    await turns(TURNS)
    await nodes.shows.close()
    assert nodes.open["sick"] == 0
    assert all(
        isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*waiting, return_exceptions=True)
    )


async def test_what_another_replica_was_told_is_not_asked_again() -> None:
    nodes = Nodes()
    told = Model("there", capabilities=frozenset({"tools"}), digest="digest of known", details=Details(family="f"))
    nodes.shows.remember([told, Model("not shown", digest="digest of new")])
    assert nodes.shows.corrected(model("known")).capabilities == frozenset()
    nodes.shows.remember([replace(told, shown=True)])
    await nodes.shows.learn(WELL, [model("known"), model("new")])
    assert nodes.asked == {("well", "new"): 1}
    known = nodes.shows.corrected(model("known"))
    assert (known.spelling, known.capabilities, known.details.family, known.shown) == ("known", {"tools"}, "f", True)
    assert nodes.shows.corrected(model("new")).shown


async def end(nodes: Nodes, waiting: list["asyncio.Task[object]"]) -> None:
    nodes.recovered.set()
    await asyncio.gather(*waiting)
