"""What replicas are told: what operators say, what others found, whose turn it is, how fast nodes are."""

import re

import pytest

from gateway.core.breaker import Breaker
from gateway.core.fleet import Registry
from gateway.core.placing import Left, News, breaker_name
from gateway.core.routing import Rates
from gateway.state import keyspace
from gateway.state.placement import RedisPlacement
from tests.fleets import FleetBench, M, ask, candidate, place


async def sync(replica: RedisPlacement, version: int = 0, revision: int = 0, **turns: int) -> News:
    return await replica.sync(version, revision, rates=True, turns=turns)


async def test_an_older_registry_never_replaces_a_newer_one(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await fleet.register(n1=2)
    await fleet.registry.publish(Registry(version=1))
    news = await sync(fleet.a)
    assert (news.version, fleet.seen().capacity) == (2, {"n1": 2})
    assert news.registry
    assert [node.slots for node in news.registry.nodes] == [2]


async def test_a_replica_is_told_what_is_new_to_it_and_only_that(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    await fleet.a.saw({"state:n1": b"up", "models:n1": b"m"})
    first = await sync(fleet.b)
    assert first.registry
    assert (first.told, first.now_ms) == ({"state:n1": b"up", "models:n1": b"m"}, fleet.now_ms)
    again = await sync(fleet.b, first.version, first.revision)
    assert (again.registry, again.told, again.revision) == (None, {}, first.revision)
    await fleet.c.saw({"state:n1": b"up"})
    assert (await sync(fleet.b, first.version, first.revision)).revision == first.revision, "it is not new"
    await fleet.c.saw({"state:n1": b"down"})
    await fleet.c.saw({"models:n1": b""})
    changes = await sync(fleet.b, first.version, first.revision)
    assert changes.told == {"state:n1": b"down", "models:n1": b""}


async def test_when_redis_has_lost_its_data_a_replica_is_told_all_there_is(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    for number in range(5):
        await fleet.a.saw({"state:n1": b"%d" % number})
    known = await sync(fleet.a)
    fleet.redis.flushall()
    fleet.tick(0)
    await fleet.b.saw({"state:n2": b"up"})
    news = await sync(fleet.a, known.version, known.revision)
    assert news.revision < known.revision
    assert (news.told, news.registry, news.version) == ({"state:n2": b"up"}, None, 0)


async def test_a_turn_falls_to_one_replica_and_again_when_it_is_due(fleet: FleetBench) -> None:
    async def mine() -> list[list[str]]:
        asked = [await one.sync(0, 0, rates=False, turns={"probe n1": 3_000}) for one in (fleet.a, fleet.b, fleet.c)]
        return [news.turns for news in asked]

    assert await mine() == [["probe n1"], [], []]
    fleet.tick(2_999)
    assert await mine() == [[], [], []]
    fleet.tick(1)
    assert sum(map(len, await mine())) == 1
    assert (await fleet.b.sync(0, 0, rates=False, turns={"probe n1": 3_000, "list n1": 9})).turns == ["list n1"]


async def test_replicas_see_who_is_busy_what_is_loaded_and_who_waits(fleet: FleetBench) -> None:
    await fleet.register(n1=1, n2=1)
    await place(fleet.a, ask("one", candidate("n1", cold=True)))
    await place(fleet.b, ask("two", candidate("n1", cold=True)))
    news = await sync(fleet.c)
    assert news.busy == {"n1": 1, f"n1 {M}": 1}
    assert (news.loads, news.depths, news.rates) == ({"n1": M}, {M: 1}, {})
    await fleet.a.loaded([("n1", M)])
    assert (await sync(fleet.c)).loads == {}


async def test_a_breaker_changes_once_for_what_it_was(fleet: FleetBench) -> None:
    name, was, to_be = breaker_name("n1"), Breaker(), Breaker(failures=1)
    assert await fleet.a.judge(name, was, to_be) == (fleet.now_ms, None)
    assert await fleet.b.judge(name, was, Breaker(failures=2)) == (fleet.now_ms, to_be)
    news = await sync(fleet.c)
    assert set(news.told) == {name}
    assert await fleet.b.judge(name, to_be, Breaker()) == (fleet.now_ms, None)
    assert (await sync(fleet.c, 0, news.revision)).told == {name: b""}


async def test_the_breakers_of_a_node_that_was_removed_are_gone_and_replicas_are_told(fleet: FleetBench) -> None:
    await fleet.register(n1=1, n10=1)
    names = [breaker_name("n1"), breaker_name("n1", M), breaker_name("n10")]
    for name in names:
        await fleet.a.judge(name, Breaker(), Breaker(failures=1))
    known = await sync(fleet.b)
    await fleet.register(n10=1)
    assert (await sync(fleet.b, 0, known.revision)).told == dict.fromkeys(names[:2], b"")
    assert set((await sync(fleet.c)).told) >= {names[2]}


async def test_who_leaves_is_told_the_breakers_its_outcome_may_change(fleet: FleetBench) -> None:
    await fleet.register(n1=2)
    await place(fleet.a, ask("one"))
    await fleet.b.judge(breaker_name("n1"), Breaker(), Breaker(failures=1))
    await fleet.b.judge(breaker_name("n1", M), Breaker(), Breaker(failures=2))
    freed = (await fleet.a.leave([Left(id="one")]))[0]
    assert freed
    assert (freed.node, freed.pair) == (Breaker(failures=1), Breaker(failures=2))


async def test_what_good_calls_came_to_says_how_fast_a_node_is(fleet: FleetBench) -> None:
    await fleet.register(n1=3)
    figures = {"prompt_tokens": 100, "prompt_ms": 50.0, "output_tokens": 10, "output_ms": 200.0, "load_ms": 900.0}
    for number in range(2):
        await place(fleet.a, ask(f"bad {number}".replace(" ", "-")))
    await fleet.leave("bad-0", **figures)
    await fleet.leave("bad-1", good=True)
    await place(fleet.a, ask("one", candidate("n1", cold=True)))
    fleet.tick(1_400)
    await fleet.leave("one", **figures, good=True)
    rates = await _rates(fleet)
    assert (rates.prompt_token_ms, rates.output_token_ms, rates.load_ms, rates.calls) == (0.5, 20.0, 900.0, 2)
    assert rates.call_ms == pytest.approx(1 + 0.2 * (500 - 1)), "loading is not counted: it is counted apart"
    await place(fleet.a, ask("two"))
    await fleet.leave("two", **figures | {"prompt_ms": 100.0}, good=True)
    rates = await _rates(fleet)
    assert rates.prompt_token_ms == pytest.approx(0.5 + 0.2 * 0.5)
    assert rates.load_ms == 900.0, "it did not load"


async def _rates(fleet: FleetBench) -> Rates:
    rates = (await sync(fleet.a)).rates
    assert rates
    return rates["n1", M]


async def test_prompts_that_a_node_has_in_mind_are_measured_apart(fleet: FleetBench) -> None:
    await fleet.register(n1=1)
    for number, prompt_ms in enumerate((100.0, 10.0)):
        await place(fleet.a, ask(f"c{number}", lookups=("d",), records=("d",)))
        await fleet.leave(f"c{number}", prompt_tokens=100, prompt_ms=prompt_ms, good=True)
    rates = await _rates(fleet)
    assert (rates.prompt_token_ms, rates.cached_token_ms, rates.calls, rates.cached_calls) == (1.0, 0.1, 2, 1)


async def test_every_key_is_what_the_table_of_names_says(fleet: FleetBench) -> None:
    await fleet.register(n1=2)
    await place(fleet.a, ask("one", records=("d",)))
    await fleet.leave("one", good=True)
    for name in ("loads", "waits"):
        await place(fleet.a, ask(name, candidate("n1", slots=2, cold=True)))
    await fleet.a.saw({"state:n1": b"up"})
    await sync(fleet.a, **{"probe n1": 1})
    table = dict(re.findall(r"(\{fleet\}:\w+) +(\w+)", keyspace.__doc__ or ""))
    assert {name: fleet.redis.type(name) for name in fleet.redis.keys("{fleet}:*")} == table
    ends = {name for name in table if fleet.redis.ttl(name) >= 0}
    assert ends == {"{fleet}:served"}
