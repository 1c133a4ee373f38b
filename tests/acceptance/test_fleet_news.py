"""Replicas share what they know of nodes: probes are made once for all of them, and operators' changes reach all."""

import asyncio
import time
from collections import Counter

import pytest

from gateway.backends.news import PROBE_MS
from gateway.core.breaker import JITTER
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_models import MODELS
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import PATH, Crowd
from tests.acceptance.operators import Operator
from tests.nodes import nodes
from tests.world import POLL_S, World, bearer, chat

REPLICAS = 3
WATCHED_S = 15.0
PROBES_MAX = 1 + WATCHED_S * 1000 / (PROBE_MS * (1 - JITTER))
"""of one node in that time, by one replica in a hurry"""
USED_WITHIN_S = 1.0
CLIENTS, SLOTS = 12, 4
"""of each node: three are needed for all clients"""
RELOADS = 100
MANY = 1_000_000
ONLY_THERE = "qwen3:8b"


async def test_three_replicas_probe_as_much_as_one_and_show_each_digest_once(start: Start) -> None:
    async with nodes(2) as fleet, start(fleet.urls, replicas=REPLICAS):
        at_start = [Counter(ledger.requests) for ledger in fleet.ledgers]
        await asyncio.sleep(WATCHED_S)  # what is counted is what happens when nothing does
        since = [Counter(ledger.requests) - before for ledger, before in zip(fleet.ledgers, at_start, strict=True)]
        print(
            f"\n{REPLICAS} replicas, {WATCHED_S} s, on each node: /api/ps {[one['/api/ps'] for one in since]}, "
            f"/api/version {[one['/api/version'] for one in since]} (one replica: {WATCHED_S * 1000 / PROBE_MS:.0f}); "
            f"/api/show since the start, on all: {fleet.requests['/api/show']} of {len(MODELS)} digests"
        )
        for one in since:
            assert 1 < one["/api/ps"] <= PROBES_MAX
            assert 1 < one["/api/version"] <= PROBES_MAX
            assert one["/api/tags"] <= 1
        assert fleet.requests["/api/show"] == len({model.digest for model in MODELS})


async def test_a_node_that_is_added_is_used_by_every_replica_within_a_second(start: Start) -> None:
    old = FakeOllama(models=tuple(model for model in MODELS if model.name != ONLY_THERE))
    new = FakeOllama()
    await old.start()
    await new.start()
    async with start([old.url], replicas=REPLICAS) as world:
        key = await world.create_key(rate_limit_per_min=MANY)
        missing = await world.http.post(world.url + PATH, headers=bearer(key), json=chat(model=ONLY_THERE))
        assert missing.status_code == 404
        began_s = time.monotonic()
        await Operator(world).make("/backends", name="new", url=new.url)
        used_s = await asyncio.gather(*(_until_answered_s(world, url, key, began_s) for _, url in world.replicas))
        print(f"\nused by each replica after {[f'{one * 1000:.0f} ms' for one in used_s]}")
        assert max(used_s) < USED_WITHIN_S
        assert len(new.ledger.inference) == REPLICAS
        await world.rows(REPLICAS)
    await old.stop()
    await new.stop()


@pytest.mark.timeout(240)
async def test_a_hundred_changes_of_the_fleet_under_load_fail_no_call(start: Start) -> None:
    extra = FakeOllama()
    await extra.start()
    async with nodes(2) as fleet:
        for node in (*fleet, extra):
            node.behaviour = Behaviour(tokens=4, tokens_per_s=40)
        async with start(fleet.urls, replicas=REPLICAS, OLLAMA_SLOTS=str(SLOTS), REDIS_TIMEOUT_MS="5000") as world:
            key = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=None)
            crowd = Crowd(world, key, CLIENTS)
            crowd.start()
            await crowd.until(lambda crowd: len(crowd.told) >= CLIENTS)
            operator, settled = Operator(world), fleet.urls[0].partition("://")[2]
            for _ in range(RELOADS // 4):
                await operator.make("/backends", name="extra", url=extra.url, slots=SLOTS)
                await extra.ledger.until(lambda ledger: ledger.open)
                await operator.change(f"/backends/{settled}", draining=True)
                await operator.change(f"/backends/{settled}", draining=False)
                await extra.ledger.until(lambda ledger: ledger.open)
                await operator.remove("/backends/extra")
            await crowd.stop()
            print(
                f"\n{RELOADS} changes, {len(crowd.told)} calls: {dict(crowd.statuses())}; by node "
                f"{[*fleet.served, sum(one.completed for one in extra.ledger.inference)]}"
            )
            assert crowd.statuses().keys() == {200}
            assert not [one for one in extra.ledger.inference if not one.completed], "cut by the removal"
            await world.rows(len(crowd.told))
    await extra.stop()


async def test_a_draining_node_finishes_what_it_has_and_gets_nothing_new(start: Start) -> None:
    async with nodes(2) as fleet, start(fleet.urls, replicas=REPLICAS, OLLAMA_SLOTS=str(CLIENTS // 2)) as world:
        for node in fleet:
            node.behaviour = Behaviour(tokens=40, tokens_per_s=20)
        key = await world.create_key(rate_limit_per_min=MANY)
        crowd = Crowd(world, key, CLIENTS)
        crowd.start()
        await fleet.until(lambda fleet: all(ledger.open for ledger in fleet.ledgers))
        drained = fleet[0].ledger
        began_s = time.monotonic()
        await Operator(world).change(f"/backends/{fleet.urls[0].partition('://')[2]}", draining=True)
        told_at = time.time()
        await drained.until_idle()
        idle_s = time.monotonic() - began_s
        await crowd.until(lambda crowd: crowd.told and crowd.told[-1].ended_s > began_s + idle_s + USED_WITHIN_S)
        await crowd.leave()
        late = [one.received_at - told_at for one in drained.inference if one.received_at > told_at]
        print(f"\ndrained {idle_s:.2f} s after the order (an answer takes 2 s); {len(late)} calls began after it")
        assert crowd.statuses().keys() == {200}
        assert all(one.completed for one in drained.inference)
        assert not late


async def _until_answered_s(world: World, url: str, key: str, began_s: float) -> float:
    """Seconds until the replica finds a node with the model."""
    while True:
        reply = await world.http.post(url + PATH, headers=bearer(key), json=chat(model=ONLY_THERE))
        if reply.status_code == 200:
            return time.monotonic() - began_s
        assert reply.status_code in (404, 503), reply.text
        await asyncio.sleep(POLL_S)
