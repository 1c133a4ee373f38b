"""A replica that is stopped at one step of a call, with twenty calls at that step, and killed: by a gate before Redis
and a node that waits, for there is no hook in the replica.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.dev.process import Child
from tests.chaos.gate import Gate, Side
from tests.chaos.streams import Stream
from tests.world import World, bearer, chat

RUNS = 20
"""calls in each cell"""
PATIENCE_MS = "30000"
"""how long a replica waits for Redis: longer than anything is held here"""
TURNS = 12
FIRST, FURTHER = 3, 77
"""tokens of a stream before the node waits, and after that until it waits again: enough for one renewal"""


class Pause:
    """Where the fake node waits, in place of for ever: until `opened`, then once more after `FURTHER` tokens."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self._tokens: dict[Any, int] = {}

    async def __call__(self) -> None:
        task = asyncio.current_task()
        self._tokens[task] = self._tokens.get(task, 0) + 1
        await self.opened.wait()
        if self._tokens[task] > FURTHER:
            await asyncio.Event().wait()


class Victim:
    """One replica at a time behind the gate, its calls, and what became of them."""

    def __init__(self, world: World, gate: Gate, node: FakeOllama, key: str) -> None:
        self.world, self.gate, self.node, self.key = world, gate, node, key
        self.pause = Pause()
        self.child: Child | None = None
        self.url = ""
        self.streams: list[Stream] = []
        self.finished: dict[str, tuple[int, int]] = {}
        """id of each call whose client got all of it -> prompt and completion tokens as it was told"""

    async def begin(self) -> None:
        """A new replica, which answers one call well."""
        self.pause.opened = asyncio.Event()
        self.streams = []
        self.url = await self.world.add_replica(REDIS_URL=self.gate.url, REDIS_TIMEOUT_MS=PATIENCE_MS)
        self.child = self.world.replicas[-1][0]
        await self.world.ready()
        await self.one_whole_call(self.url)

    async def one_whole_call(self, url: str) -> None:
        self.node.behaviour = Behaviour()
        reply = await self.world.http.post(f"{url}/v1/chat/completions", headers=bearer(self.key), json=chat())
        reply.raise_for_status()
        usage = reply.json()["usage"]
        self.finished[reply.headers["x-request-id"]] = usage["prompt_tokens"], usage["completion_tokens"]

    async def ask(self, count: int = RUNS, *, stream: bool = True, **behaviour: Any) -> list[Stream]:
        """So many calls, each sent whole before this returns."""
        self.node.behaviour = Behaviour(**behaviour)
        body = chat(stream=True, stream_options={"include_usage": True}) if stream else chat()
        asked = [Stream() for _ in range(count)]
        await asyncio.gather(*(one.ask(self.url, self.key, body) for one in asked))
        self.streams += asked
        return asked

    async def turns(self) -> None:
        """The replica has read all that was sent to it, and its calls have gone as far as they can."""
        for _ in range(TURNS):
            (await self.world.http.get(f"{self.url}/health")).raise_for_status()

    async def until_at_node(self, count: int = RUNS) -> None:
        """So many requests are at the node and not over."""
        await self.node.ledger.until(lambda ledger: ledger.open >= count)

    async def until_node_is_done(self) -> None:
        await self.node.ledger.until(lambda ledger: not ledger.open)

    async def kill(self) -> list[str]:
        """kill -9. The ids of the calls that were held at the gate."""
        assert self.child
        await self.child.kill()
        self.world.replicas.pop()
        held = [one.call_id for one in self.gate.held]
        await self.gate.cut()
        await asyncio.gather(*(one.close() for one in self.streams))
        await self.until_node_is_done()
        self.finished |= {one.call_id: one.usage for one in self.streams if one.whole}
        return held


class Cell:
    """What is known of the calls of one cell when its replica is dead."""

    def __init__(self, *, rows: int, **every: Any) -> None:
        self.rows = rows
        """how many of its calls Redis has let in"""
        self.every = every
        """what the rows of all of them say; of a pair, a number between the two"""
        self.calls: set[str] = set()


async def before_reserve(victim: Victim) -> Cell:
    victim.gate.hold("admit", "before")
    await victim.ask()
    await victim.gate.until_held(1)
    await victim.turns()
    assert not [one for one in victim.gate.executed if one.verb == "admit"]
    return Cell(rows=0)


async def after_reserve(victim: Victim) -> Cell:
    await _behind_a_decoy(victim, "admit", "after")
    await victim.gate.until_held(RUNS)
    return Cell(rows=1 + RUNS, status="replica_lost", estimated=True, completion_tokens=0, credits_micro=0)


async def before_connect(victim: Victim) -> Cell:
    """A slot of the node is taken, and the replica does not know it yet."""
    await _behind_a_decoy(victim, "place", "after", passing=1)
    await victim.gate.until_held(RUNS)
    assert victim.node.ledger.open <= 1
    return Cell(rows=1 + RUNS, status="replica_lost", estimated=True, completion_tokens=0, credits_micro=0)


async def _behind_a_decoy(victim: Victim, verb: str, side: Side, *, passing: int = 0) -> None:
    """Commands leave in batches, one after the other. While the decoy's is held, those of all others get into one."""
    victim.gate.hold("admit", "before")
    await victim.ask(1, hang=True)
    await victim.gate.until_held(1)
    await victim.ask(hang=True)
    await victim.turns()
    victim.gate.hold(verb, side, passing=passing)


async def after_connect(victim: Victim) -> Cell:
    await victim.ask(hang=True)
    await victim.until_at_node()
    return Cell(rows=RUNS, status="replica_lost", estimated=True, completion_tokens=0, credits_micro=0)


async def before_first_byte(victim: Victim) -> Cell:
    """The node is at work on answers in one piece."""
    await victim.ask(stream=False, hang_after_tokens=0)
    await victim.until_at_node()
    return Cell(rows=RUNS, status="replica_lost", estimated=True, completion_tokens=0, credits_micro=0)


async def after_first_byte(victim: Victim) -> Cell:
    for one in await victim.ask(tokens=99, hang_after_tokens=1):
        await one.until_tokens(1)
    return Cell(rows=RUNS, status="replica_lost", estimated=True, completion_tokens=(0, 1))


async def before_renew(victim: Victim) -> Cell:
    streams = await victim.ask(tokens=200, hang_after_tokens=FIRST)
    for one in streams:
        await one.until_tokens(FIRST)
    victim.gate.hold("renew", "before")
    victim.pause.opened.set()
    for one in streams:
        await one.until_tokens(FIRST + FURTHER)
    await victim.gate.until_held(1)
    return Cell(rows=RUNS, status="replica_lost", estimated=True, completion_tokens=0, credits_micro=0)


async def after_renew(victim: Victim) -> Cell:
    streams = await victim.ask(tokens=200, hang_after_tokens=FIRST)
    for one in streams:
        await one.until_tokens(FIRST)
    victim.gate.hold("renew", "before")
    await victim.ask(1, tokens=70, hang_after_tokens=69)
    await victim.gate.until_held(1)
    victim.pause.opened.set()
    for one in streams:
        await one.until_tokens(FIRST + FURTHER)
    victim.gate.hold("renew", "after")
    await victim.gate.until_held(RUNS)
    return Cell(rows=1 + RUNS, completion_tokens=(64, FIRST + FURTHER))


async def before_settle(victim: Victim) -> Cell:
    for one in await victim.ask(tokens=5, hang_after_tokens=FIRST):
        await one.until_tokens(FIRST)
    victim.gate.hold("settle", "before")
    victim.pause.opened.set()
    await victim.until_node_is_done()
    await victim.gate.until_held(1)
    return Cell(rows=RUNS, status="replica_lost", estimated=True, completion_tokens=0, credits_micro=0)


async def after_settle(victim: Victim) -> Cell:
    for one in await victim.ask(tokens=5, hang_after_tokens=FIRST):
        await one.until_tokens(FIRST)
    victim.gate.hold("settle", "before")
    await victim.ask(1, tokens=5)
    await victim.gate.until_held(1)
    victim.pause.opened.set()
    await victim.until_node_is_done()
    await victim.turns()
    victim.gate.hold("settle", "after")
    await victim.gate.until_held(RUNS)
    return Cell(rows=1 + RUNS, status="ok", estimated=False, completion_tokens=5, credits_micro=1_000_000)


CELLS: tuple[Callable[[Victim], Awaitable[Cell]], ...] = (
    before_reserve,
    after_reserve,
    before_connect,
    after_connect,
    before_first_byte,
    after_first_byte,
    before_renew,
    after_renew,
    before_settle,
    after_settle,
)
