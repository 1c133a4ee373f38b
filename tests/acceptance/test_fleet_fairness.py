"""The waiting line is fair between keys: by tokens served, weighted by tier, however many calls a key sends."""

import asyncio
import math
import time
from statistics import mean

import pytest
from msgspec import Struct

from gateway.dev.fake_faults import Behaviour
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import PATH, Crowd
from tests.nodes import Nodes, nodes
from tests.world import World, bearer, chat

NODES, SLOTS = 4, 2
"""SLOTS of each"""
GREEDY_CALLS, ALIKE = 500, 5
"""ALIKE of them, one after the other, have answers of one length"""
MODEST_CALLS = 16
MODEST_EVERY_S, ALONE_EVERY_S = 1.0, 0.5
TOKENS_PER_S = 100
TOKENS = 40
"""of an answer to the modest key"""
GREEDY_TOKENS = (24, 32, 40, 48, 56)
"""of answers to the greedy one: were all as long, slots would become free all at once"""
SLOWER_MAX = 2.0
LIGHT, HEAVY = 1, 3
"""weights"""
LIGHT_TOKENS, HEAVY_TOKENS = 40, 10
"""of an answer"""
SATURATED_BY = 32
"""clients with each of the two keys"""
WARM_CALLS = 50
MEASURED_S = 15.0
OFF_MAX = 0.1
MANY = 1_000_000


class Sent(Struct):
    """One call of the modest key, and when it was sent (Unix seconds)."""

    content: str
    at_s: float
    took_ms: float = 0.0


@pytest.mark.timeout(240)
async def test_five_hundred_calls_of_one_key_do_not_starve_another_with_one_a_second(start: Start) -> None:
    async with nodes(NODES) as fleet:
        for node in fleet:
            node.behaviour = Behaviour(tokens=2 * TOKENS, tokens_per_s=TOKENS_PER_S)
        async with start(fleet.urls, replicas=3, OLLAMA_SLOTS=str(SLOTS), REDIS_TIMEOUT_MS="5000") as world:
            greedy = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=None)
            modest = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=None)
            alone = await _one_by_one(world, modest, "alone", ALONE_EVERY_S)
            kinds = GREEDY_TOKENS * (GREEDY_CALLS // len(GREEDY_TOKENS) // ALIKE)
            crowds = [Crowd(world, greedy, ALIKE, max_tokens=tokens) for tokens in kinds]
            for crowd in crowds:
                crowd.start()
            await fleet.until(lambda fleet: fleet.requests["/api/chat"] >= MODEST_CALLS + WARM_CALLS)
            beside = await _one_by_one(world, modest, "beside", MODEST_EVERY_S)
            await asyncio.gather(*(crowd.leave() for crowd in crowds))
            overtaken = [_overtaken(fleet, one) for one in beside]
            slower = _p95(beside) / _p95(alone)
            print(
                f"\none call a second, p95: alone {_p95(alone):.0f} ms, beside {GREEDY_CALLS} calls of another key "
                f"{_p95(beside):.0f} ms ({slower:.2f} times); calls of the other key that began between its sending "
                f"and its beginning: mean {mean(overtaken):.1f}, most {max(overtaken)}; {_count(crowds)} of it in all"
            )
            assert all(crowd.statuses().keys() <= {200} for crowd in crowds)
            assert fleet.peaks == [SLOTS] * NODES
            assert mean(overtaken) <= NODES * SLOTS
            assert slower < SLOWER_MAX


@pytest.mark.timeout(240)
async def test_tokens_are_served_by_the_weights_of_tiers(start: Start) -> None:
    async with nodes(2) as fleet:
        for node in fleet:
            node.behaviour = Behaviour(tokens=2 * LIGHT_TOKENS, tokens_per_s=TOKENS_PER_S)
        async with start(fleet.urls, replicas=3, OLLAMA_SLOTS=str(SLOTS), REDIS_TIMEOUT_MS="5000") as world:
            light, heavy = await _weighted(world, LIGHT), await _weighted(world, HEAVY)
            crowds = (
                Crowd(world, light, SATURATED_BY, max_tokens=LIGHT_TOKENS),
                Crowd(world, heavy, SATURATED_BY, max_tokens=HEAVY_TOKENS),
            )
            for crowd in crowds:
                crowd.start()
            await asyncio.gather(*(crowd.until(lambda crowd: len(crowd.told) >= SATURATED_BY) for crowd in crowds))
            before = [await _served(world, key) for key in (light, heavy)]
            until_s = time.monotonic() + MEASURED_S
            await crowds[1].until(lambda crowd: crowd.told[-1].ended_s >= until_s)
            after = [await _served(world, key) for key in (light, heavy)]
            for crowd in crowds:
                await crowd.leave()
                assert crowd.statuses().keys() == {200}
            less, more = (now - then for now, then in zip(after, before, strict=True))
            print(
                f"\nweights {LIGHT} : {HEAVY}, answers of {LIGHT_TOKENS} and {HEAVY_TOKENS} tokens: in {MEASURED_S} s "
                f"{less} and {more} tokens, 1 : {more / less:.2f}; calls {[len(crowd.told) for crowd in crowds]}"
            )
            share = more / (less + more) * (LIGHT + HEAVY) / HEAVY, less / (less + more) * (LIGHT + HEAVY) / LIGHT
            assert all(abs(one - 1) < OFF_MAX for one in share), share


async def _one_by_one(world: World, key: str, when: str, every_s: float) -> list[Sent]:
    """A call every so often, whether the last one has ended or not, at one replica after the other."""

    async def call(number: int) -> Sent:
        await asyncio.sleep(number * every_s)
        url = world.replicas[number % len(world.replicas)][1] + PATH
        sent = Sent(f"{when} {number}", time.time())
        began_s = time.monotonic()
        reply = await world.http.post(url, headers=bearer(key), json=chat(sent.content, max_tokens=TOKENS))
        assert reply.status_code == 200, reply.text
        sent.took_ms = (time.monotonic() - began_s) * 1000
        return sent

    return list(await asyncio.gather(*map(call, range(MODEST_CALLS))))


def _p95(calls: list[Sent]) -> float:
    """Milliseconds to the end of the answer."""
    return sorted(one.took_ms for one in calls)[math.ceil(len(calls) * 0.95) - 1]


def _count(crowds: list[Crowd]) -> int:
    return sum(len(crowd.told) for crowd in crowds)


def _overtaken(fleet: Nodes, sent: Sent) -> int:
    """How many calls began on a node between the sending of this one and its own beginning."""
    (mine,) = (one for one in fleet.inference if one.body["messages"][0]["content"] == sent.content)
    return sum(sent.at_s <= other.received_at < mine.received_at for other in fleet.inference)


async def _weighted(world: World, weight: int) -> str:
    """A key of a tier with this weight."""
    name = f"weight-{weight}"
    await world.admin("POST", "/admin/tiers", json={"name": name, "weight": weight})
    return await world.create_key(tier=name, rate_limit_per_min=MANY, monthly_token_limit=10**9)


async def _served(world: World, key: str) -> int:
    """Tokens of prompts and answers that were charged to it."""
    return int((await world.usage(key))["monthly_tokens"]["spent"])
