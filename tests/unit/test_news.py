"""What replicas hear of each other, and that of all of them one does what is to be done."""

import asyncio
from typing import Any, cast

import pytest

from gateway.backends import news as news_module
from gateway.backends.news import DOWN_MS, LIST_MS, LOADING_MS, PROBE_AGAIN_S, PROBE_MS, RATES_ROUNDS, FleetNews
from gateway.backends.prober import Prober
from gateway.backends.trials import Trials
from gateway.core.breaker import JITTER, TRIAL_MS, Breaker
from gateway.core.fleet import Node, Registry
from gateway.core.routing import Rates
from gateway.errors import LimitsUnavailable
from tests.fake_placement import FakePlacement
from tests.fake_replica import Replica
from tests.fakes import MODEL, turns


class Does:
    """A prober, and trials, that only note what falls to them."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []

    async def probe(self, name: str, *, afresh: bool) -> None:
        self.done.append(("list" if afresh else "probe", name))

    async def heard(self, names: list[str]) -> None:
        self.done.append(("heard", *names))

    async def hold(self, name: str, model: str, trial_id: str) -> None:
        self.done.append(("trial", name, model))


class Hears(Replica):
    """A replica with the news; on the placement of another one, if any."""

    def __init__(self, *names: str, placement: FakePlacement | None = None, chance: float = 0.5) -> None:
        super().__init__(*names)
        self.placement = placement or self.placement
        self.does = Does()
        self.news = FleetNews(
            placement=self.placement,
            view=self.view,
            prober=cast(Prober, self.does),
            trials=cast(Trials, self.does),
            chance=lambda: chance,
            new_id=lambda: "t1",
            clock_ms=self.clock_ms,
        )

    async def read(self) -> list[tuple[str, ...]]:
        """What falls to it."""
        self.does.done.clear()
        await self.news.read()
        await turns(5)
        return sorted(self.does.done)


async def test_of_all_replicas_one_probes_and_one_lists_a_node() -> None:
    first = Hears("a")
    others = [Hears("a", placement=first.placement) for _ in range(2)]
    assert await first.read() == [("list", "a"), ("probe", "a")]
    assert [await other.read() for other in others] == [[], []]


@pytest.mark.parametrize(
    ("healthy", "chance", "after_ms"),
    [(True, 0.5, PROBE_MS), (True, 0.0, int(PROBE_MS * (1 - JITTER))), (False, 0.0, DOWN_MS),
     (False, 0.5, int(DOWN_MS * (1 + JITTER / 2)))],
)  # fmt: skip
async def test_it_is_probed_every_so_often(healthy: bool, chance: float, after_ms: int) -> None:
    replica = Hears("a", chance=chance)
    replica.saw("a", healthy=healthy)
    await replica.read()
    replica.tick(after_ms - 1)
    assert await replica.read() == []
    replica.tick(1)
    assert await replica.read() == [("probe", "a")]


async def test_models_are_listed_every_half_minute() -> None:
    replica = Hears("a", chance=0.0)
    await replica.read()
    replica.tick(LIST_MS - 1)
    assert ("list", "a") not in await replica.read()
    replica.tick(1)
    assert ("list", "a") in await replica.read()


async def test_a_node_that_loads_for_others_is_looked_at_every_second() -> None:
    replica = Hears("a")
    replica.placement.loads["a"] = ("c1", MODEL)
    await replica.read()
    await replica.read()
    replica.tick(LOADING_MS)
    assert await replica.read() == [("probe", "a")]


async def test_an_ejected_node_is_tried_when_its_time_has_come_by_one_replica() -> None:
    first = Hears("a", chance=0.0)
    other = Hears("a", placement=first.placement, chance=0.0)
    out = Breaker(failures=3, ejections=1, until_ms=first.placement.now_ms + 1_000)
    await first.placement.judge(f"breaker:a {MODEL}", Breaker(), out)
    for one in (first, other):
        await one.read()
        assert (await one.read()) == []
    first.tick(1_000)
    await first.news.read()  # it learns the time
    assert await first.read() == [("trial", "a", MODEL)]
    assert await other.read() == []
    first.tick(TRIAL_MS)
    assert ("trial", "a", MODEL) in await other.read() + await other.read()


async def test_a_node_that_is_down_is_not_tried() -> None:
    replica = Hears("a")
    await replica.placement.judge("breaker:a *", Breaker(), Breaker(failures=3, ejections=1, until_ms=1))
    replica.saw("a", healthy=False)
    await replica.read()
    assert await replica.read() == []


async def test_a_node_that_operators_have_added_is_looked_at_at_once() -> None:
    replica = Hears("a")
    await replica.read()
    replica.placement.registry = Registry(version=1, nodes=(Node(name="new", url="http://new"),))
    assert await replica.read() == [("list", "new"), ("probe", "new")]
    assert replica.view.node("new")


async def test_rates_are_read_now_and_then() -> None:
    replica = Hears("a")
    await replica.read()
    replica.placement.rates = {("a", MODEL): Rates(calls=1)}
    for _ in range(RATES_ROUNDS - 1):
        await replica.read()
    assert replica.view.snapshot()[0].rates == {}
    await replica.read()
    assert replica.view.snapshot()[0].rates == {MODEL: Rates(calls=1)}


async def test_without_redis_every_replica_looks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news_module, "ROUND_S", 0.0)
    replica = Hears("a")
    replica.placement.away = True
    with pytest.raises(LimitsUnavailable):
        await replica.news.read()
    running = asyncio.create_task(replica.news.run())
    await turns(20)
    assert replica.does.done == [("probe", "a")]
    replica.tick(PROBE_MS)
    await turns(20)
    assert replica.does.done == [("probe", "a")] * 2
    replica.placement.away = False
    await turns(20)
    assert ("list", "a") in replica.does.done, "it hears of its turns again"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await replica.news.close()


async def test_a_node_that_has_lost_a_model_is_listed_again_once_for_many_calls() -> None:
    replica = Hears("a")
    for _ in range(5):
        replica.news.suspect("a")
    await turns(5)
    assert replica.does.done == [("list", "a")]
    replica.tick(int(PROBE_AGAIN_S * 1000))
    replica.news.suspect("a")
    await turns(5)
    assert len(replica.does.done) == 2


async def test_what_is_under_way_is_bounded_and_ends_with_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news_module, "TASKS_MAX", 3)
    replica = Hears("a")
    begun: list[str] = []

    async def hangs(name: str, *, afresh: bool) -> None:
        begun.append(name)
        await asyncio.Event().wait()

    cast(Any, replica.does).probe = hangs
    for number in range(9):
        replica.tick(1_000)
        replica.news.suspect(f"n{number}")
    await turns(5)
    assert len(begun) == 3
    async with asyncio.timeout(5):
        await replica.news.close()
