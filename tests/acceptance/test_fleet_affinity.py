"""Conversations stay with the node that has them in its cache, where that helps (the issue's affinity)."""

import asyncio
import random
import time

import msgspec
from msgspec import Struct, field

from gateway.backends.news import ROUND_S
from gateway.dev.fake_faults import Behaviour
from gateway.state import keyspace
from tests.acceptance.conftest import Start
from tests.acceptance.scene import MANY, MODEL, Scene, scene
from tests.nodes import Nodes, nodes
from tests.world import POLL_S, World, bearer

CHATS, TURNS = 20, 10
WORDS = 120
"""in what a user says at each turn"""
SLOTS = 4
"""of each node: not enough for all chats at once"""
SAVED_SHARE = 0.6
KEPT = 8
"""conversations in the cache of a node"""
HARDWARE = {"prompt_cache": KEPT, "parallel": SLOTS, "prompt_ms_per_token": 0.1}
ANSWER = Behaviour(tokens=20, tokens_per_s=400)


class Run(Struct):
    """What all chats came to. Waits are until the first byte."""

    waits_ms: list[float] = field(default_factory=list)
    evaluated: int = 0
    asked: int = 0

    def p95_ms(self) -> float:
        return sorted(self.waits_ms)[int(len(self.waits_ms) * 0.95)]


async def chats(world: World, fleet: Nodes, keys: list[str], name: str, seed: str) -> Run:
    """CHATS conversations at once, of TURNS turns without a pause. The key of a turn is that of its number: a node is
    preferred only for what the same key has asked before."""
    fleet.clear()
    run = Run()

    async def chat(number: int) -> None:
        chance = random.Random(f"{seed} {name} {number}")
        messages: list[dict[str, str]] = []
        for turn in range(TURNS):
            said = " ".join(str(chance.randrange(10**6)) for _ in range(WORDS))
            messages.append({"role": "user", "content": said})
            answer = await talk(world, keys[turn % len(keys)], messages, run)
            messages.append({"role": "assistant", "content": answer})

    await asyncio.gather(*(chat(number) for number in range(CHATS)))
    run.evaluated, run.asked = sum(node.ledger.evaluated_tokens for node in fleet), fleet.prompt_tokens
    return run


async def talk(world: World, key: str, messages: list[dict[str, str]], run: Run) -> str:
    """One turn: what the model says."""
    body = {"model": MODEL, "messages": messages, "stream": True}
    began_s, said = time.monotonic(), []
    async with world.http.stream("POST", f"{world.url}/api/chat", headers=bearer(key), json=body) as reply:
        assert reply.status_code == 200, await reply.aread()
        async for line in reply.aiter_lines():
            if not said:
                run.waits_ms.append((time.monotonic() - began_s) * 1000)
            said.append(msgspec.json.decode(line)["message"]["content"])
    return "".join(said)


async def test_twenty_chats_of_ten_turns_on_four_nodes_evaluate_few_tokens_twice(start: Start, seed: str) -> None:
    async with nodes(4, **HARDWARE) as fleet:
        for node in fleet:
            node.behaviour = ANSWER
        async with scene(start, fleet, OLLAMA_SLOTS=str(SLOTS)) as it:
            others = [
                await it.world.create_key(rate_limit_per_min=MANY, monthly_token_limit=10**9) for _ in range(TURNS)
            ]
            busy = await chats(it.world, fleet, others, "least busy", seed)
            mindful = await chats(it.world, fleet, [it.key], "affinity", seed)
            saved = 1 - mindful.evaluated / busy.evaluated
            print(
                f"\n{CHATS} chats x {TURNS} turns: {mindful.asked} prompt tokens, evaluated: least busy "
                f"{busy.evaluated}, with affinity {mindful.evaluated} ({-saved:.0%}); p95 wait: least busy "
                f"{busy.p95_ms():.0f} ms, with affinity {mindful.p95_ms():.0f} ms"
            )
            assert len(busy.waits_ms) == len(mindful.waits_ms) == CHATS * TURNS
            assert saved >= SAVED_SHARE
            assert max(fleet.peaks) <= SLOTS


async def test_affinity_goes_where_the_work_is_less_once_it_was_seen_not_to_help(start: Start) -> None:
    """A node that knows a conversation, and has another call to work on: is it preferred to an idle one?"""
    async with nodes(2, parallel=4) as fleet, scene(start, fleet) as it:
        for node in fleet:
            node.behaviour = Behaviour(tokens=2)
        assert await prefers_the_one_that_knows(it, fleet), "as long as nobody knows better"
        useless = {"load": 0, "prompt": 1.0, "cached": 0.95, "output": 1.0, "call": 50.0, "n": 100, "h": 50}
        rates = keyspace.fleet()[12]
        for node in fleet:
            await it.world.redis.hset(rates, f"{it.name(node)} {MODEL}", msgspec.json.encode(useless))
        async with asyncio.timeout(20 * ROUND_S):
            while await prefers_the_one_that_knows(it, fleet):
                await asyncio.sleep(POLL_S)


async def prefers_the_one_that_knows(it: Scene, fleet: Nodes) -> bool:
    first = await it.call(content="Tell me a story. " * 20)
    knows = next(node for node in fleet if it.name(node) == first.backend)
    knows.behaviour = Behaviour(tokens=2, hang_after_tokens=1, remaining=1)
    other = asyncio.create_task(it.call(content="Tell me a story. " * 20, stream=True))
    await fleet.until(lambda fleet: fleet.open == 1)
    if not knows.ledger.open:  # it was no longer preferred even without anything else to do
        knows.behaviour = Behaviour(tokens=2)
        await other
        return False
    again = await it.call(content="Tell me a story. " * 20)
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    await fleet.until_idle()
    return again.backend == first.backend
