"""No node works on more than its slots, whatever clients and replicas do, and no slot is lost."""

import asyncio
import random
import time
from collections import Counter

import httpx
import pytest
from msgspec import Struct, field

from gateway.dev.fake_faults import Behaviour
from gateway.state import keyspace
from tests.acceptance.conftest import Start
from tests.nodes import Nodes, nodes
from tests.world import POLL_S, World, bearer, chat

CALLS = 2_000
CLIENTS = 96
SLOTS = 8
"""of all nodes"""
KILLED_AFTER = 800
LEAVING = 0.2
"""share of the calls whose client does not wait for the end"""
LEAVES_WITHIN_S = 0.15
ANSWER = Behaviour(tokens=4, tokens_per_s=100, first_byte_ms=5)
FREE_WITHIN_S = 30.0
MANY = 1_000_000
LEASED = ("slots", "held", "busy", "loads", "line", "places", "waiting", "patience", "depths")
"""what is there only as long as calls run or wait; of loads, those under way"""


class Fates(Struct):
    """What became of the calls: statuses, or why there was none; and the ids of those that began to be answered."""

    ended: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        return self.ended.total()


class Callers:
    """CLIENTS that make CALLS calls in all, one after the other each, at replicas that run."""

    def __init__(self, world: World, key: str, chance: random.Random) -> None:
        self._world = world
        self._key = key
        self._chance = chance
        self._left = CALLS
        self._heard = asyncio.Event()
        self.fates = Fates()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def until(self, count: int) -> None:
        """So many calls have ended."""
        while self.fates.count < count:
            self._heard.clear()
            await self._heard.wait()

    async def _client(self) -> None:
        while self._left > 0:
            self._left -= 1
            patience_s = self._chance.uniform(0, LEAVES_WITHIN_S) if self._chance.random() < LEAVING else None
            try:
                async with asyncio.timeout(patience_s):
                    fate = await self._call(streamed=self._chance.random() < 0.5)
            except TimeoutError:
                fate = "left"
            except httpx.TransportError:
                fate = "replica lost"
            self.fates.ended[fate] += 1
            self._heard.set()

    async def _call(self, *, streamed: bool) -> str:
        url = self._chance.choice([url for child, url in self._world.replicas if child.running])
        body = chat(f"call {self._left}", stream=streamed)
        async with self._world.http.stream(
            "POST", f"{url}/v1/chat/completions", headers=bearer(self._key), json=body
        ) as reply:
            if reply.status_code == 200:
                self.fates.answered.add(reply.headers["x-request-id"])
            text = (await reply.aread()).decode()
        return f"{reply.status_code}{' error' if reply.status_code == 200 and 'error' in text else ''}"


async def leased(world: World) -> dict[str, int]:
    """How much of each kind is left that belongs to calls."""
    names = dict(zip((name.partition(":")[2] for name in keyspace.fleet()), keyspace.fleet(), strict=True))
    counts = {}
    for name in LEASED:
        if name == "loads":
            under_way = [one for one in await world.redis.hkeys(names[name]) if " " not in one]
            counts[name] = len(under_way)
        elif await world.redis.type(names[name]) == "hash":
            counts[name] = await world.redis.hlen(names[name])
        else:
            counts[name] = await world.redis.zcard(names[name])
    return {name: count for name, count in counts.items() if count}


async def until_free(world: World) -> float:
    """Seconds until nothing is held, and nobody waits."""
    began_s = time.monotonic()
    async with asyncio.timeout(FREE_WITHIN_S):
        while await leased(world):
            await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s


@pytest.mark.timeout(240)
async def test_two_thousand_calls_on_eight_slots_with_leavers_and_a_killed_replica(start: Start, seed: str) -> None:
    async with nodes(4) as fleet:
        for node in fleet:
            node.behaviour = ANSWER
        async with start(fleet.urls, replicas=3, OLLAMA_SLOTS="2", REDIS_TIMEOUT_MS="5000") as world:
            key = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=10**9)
            callers = Callers(world, key, random.Random(seed))
            began_s = time.monotonic()
            running = asyncio.create_task(callers.run())
            await callers.until(KILLED_AFTER)
            await world.replicas[2][0].kill()
            await running
            took_s = time.monotonic() - began_s
            free_s = await until_free(world)
            print(
                f"\n{CALLS} calls in {took_s:.1f} s: {dict(callers.fates.ended)}; most at once on each node "
                f"{fleet.peaks}; served {fleet.served}; all slots free {free_s:.1f} s after the last call"
            )
            lost_s = await _kill_amid_calls(world, fleet, key)
            print(f"the slots of a replica killed with all of them: free {lost_s:.1f} s later")
            _check(fleet, callers.fates)
            rows = await world.rows_when_settled()
            assert {str(row["id"]) for row in rows} >= callers.fates.answered
            assert len(callers.fates.answered) <= len(rows) <= CALLS + 3 * SLOTS
            usage = await world.usage(key)
            assert usage["monthly_tokens"]["spent"] == sum(row["total_tokens"] for row in rows)
            assert (usage["monthly_tokens"]["held"], usage["concurrency"]["now"]) == (0, 0)
            print(f"{len(rows)} rows: {dict(Counter(row['status'] for row in rows))}")


async def _kill_amid_calls(world: World, fleet: Nodes, key: str) -> float:
    """Seconds until the slots, and the places in the line, of a replica that had all of them are free again."""
    for node in fleet:
        node.behaviour = Behaviour(hang_after_tokens=1)
    victim, url = world.replicas[1]
    request = {"url": f"{url}/v1/chat/completions", "headers": bearer(key), "json": chat(stream=True)}
    calls = [asyncio.create_task(world.http.post(**request)) for _ in range(3 * SLOTS)]
    await fleet.until(lambda fleet: fleet.open == SLOTS)
    while (await leased(world)).get("waiting") != 2 * SLOTS:
        await asyncio.sleep(POLL_S)
    await victim.kill()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(reply, httpx.TransportError) for reply in replies)
    return await until_free(world)


def _check(fleet: Nodes, fates: Fates) -> None:
    assert max(fleet.peaks) == 2, "more than their slots, or never both"
    assert fleet.open == 0
    assert fates.count == CALLS
    assert fates.ended.keys() <= {"200", "left", "replica lost"}, fates.ended
    assert fates.ended["replica lost"] <= CLIENTS
