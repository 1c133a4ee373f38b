"""Cold models: one load for however many calls, in nobody's way, and nobody's to end."""

import asyncio
import math
import time
from collections import Counter

import httpx
import pytest

from gateway.dev.fake_faults import Behaviour
from tests.acceptance.conftest import Start
from tests.nodes import Nodes, nodes
from tests.world import POLL_S, World, bearer, chat

COLD, WARM = "llama3.2:3b", "qwen3:8b"
FIRST_CALLS = 50
WARM_CALLS = 30
LOAD_MS = 2_000
SLOTS = 8
"""of each node"""
CHAT = "/v1/chat/completions"
MANY = 1_000_000


async def test_fifty_first_calls_load_once_on_each_node_and_hold_up_no_call_to_a_loaded_model(start: Start) -> None:
    async with nodes(3, load_ms=LOAD_MS) as fleet:
        have(fleet, WARM)
        for node in fleet:
            node.behaviour = Behaviour(first_byte_ms=20)
        async with start(fleet.urls, replicas=3, OLLAMA_SLOTS=str(SLOTS)) as world:
            key = await world.create_key(rate_limit_per_min=MANY)
            alone_ms = [await timed_ms(world, key, WARM, number) for number in range(WARM_CALLS)]
            began_s = time.monotonic()
            first = [asyncio.create_task(ask(world, key, number, model=COLD)) for number in range(FIRST_CALLS)]
            await fleet.until(lambda fleet: fleet.loads[COLD])
            amid_ms = [await timed_ms(world, key, WARM, number) for number in range(WARM_CALLS)]
            still = [node for node in fleet if node.memory.loading == COLD]
            done = sum(task.done() for task in first)
            replies = await asyncio.gather(*first)
            loads = [node.ledger.loads[COLD] for node in fleet]
            print(
                f"\n{FIRST_CALLS} first calls: loads on each node {loads}, all answered after "
                f"{time.monotonic() - began_s:.2f} s (a load: {LOAD_MS / 1000} s); calls to a loaded model, p95: alone "
                f"{p95(alone_ms):.0f} ms, during the load {p95(amid_ms):.0f} ms"
            )
            assert still and not done, "the calls to the loaded model took longer than the load: nothing was shown"
            assert {reply.status_code for reply in replies} == {200}
            assert max(loads) == 1
            used = [COLD in {one.model for one in node.ledger.inference} for node in fleet]
            assert used == [bool(count) for count in loads]
            assert not any(node.ledger.loads_given_up for node in fleet)
            await world.rows(FIRST_CALLS + 2 * WARM_CALLS)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_load_goes_on_without_the_client_that_began_it(start: Start, streamed: bool) -> None:
    async with nodes(2, load_ms=LOAD_MS) as fleet, start(fleet.urls, replicas=2, OLLAMA_SLOTS=str(SLOTS)) as world:
        key = await world.create_key(rate_limit_per_min=MANY)
        first = asyncio.create_task(ask(world, key, 0, model=COLD, stream=streamed))
        await fleet.until(lambda fleet: fleet.loads[COLD])
        other = asyncio.create_task(ask(world, key, 1, model=COLD, stream=streamed))
        while not await depth(world):
            await asyncio.sleep(POLL_S)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        reply = await other
        assert reply.status_code == 200, reply.text
        assert (fleet.loads[COLD], fleet.running(COLD)) == (1, [node for node in fleet if node.ledger.loads[COLD]])
        assert not any(node.ledger.loads_given_up for node in fleet)
        assert not any(node.ledger.unloads for node in fleet)
        rows = await world.rows(2)
        assert Counter(row["status"] for row in rows) == {"ok": 1, "client_gone": 1}
        while await held(world):
            await asyncio.sleep(POLL_S)


async def test_a_whole_answer_that_loads_its_model_holds_up_others_only_until_the_model_is_there(start: Start) -> None:
    async with nodes(1, load_ms=LOAD_MS) as fleet:
        fleet[0].behaviour = Behaviour(hang=True, remaining=1)
        async with start(fleet.urls, replicas=2, OLLAMA_SLOTS=str(SLOTS)) as world:
            key = await world.create_key(rate_limit_per_min=MANY)
            first = asyncio.create_task(ask(world, key, 0, model=COLD))
            await fleet.until(lambda fleet: fleet.loads[COLD])
            began_s = time.monotonic()
            reply = await ask(world, key, 1, model=COLD)
            took_s = time.monotonic() - began_s
            print(f"\nanswered {took_s:.2f} s after the load began ({LOAD_MS / 1000} s), the loader still waits")
            assert (reply.status_code, first.done()) == (200, False)
            assert fleet.loads[COLD] == 1
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await world.rows(2)


def have(fleet: Nodes, name: str) -> None:
    """All nodes have the model loaded."""
    for node in fleet:
        node.shelf.load(node.shelf.models[name])


async def ask(world: World, key: str, number: int, **fields: object) -> httpx.Response:
    """One call, at one replica after the other."""
    url = world.replicas[number % len(world.replicas)][1]
    return await world.http.post(url + CHAT, headers=bearer(key), json=chat(f"call {number}", **fields))


async def timed_ms(world: World, key: str, model: str, number: int) -> float:
    began_s = time.monotonic()
    reply = await ask(world, key, number, model=model)
    assert reply.status_code == 200, reply.text
    return (time.monotonic() - began_s) * 1000


async def depth(world: World) -> int:
    """Calls that wait."""
    return int(await world.redis.hlen("{fleet}:waiting"))


async def held(world: World) -> int:
    """Slots that are taken."""
    return int(await world.redis.hlen("{fleet}:held"))


def p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]
