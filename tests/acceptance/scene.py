"""A system over fake nodes as one client and one operator see it: what each call came to, what is said of each node."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from msgspec import Struct

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.operators import Operator
from tests.nodes import Nodes
from tests.world import POLL_S, World, bearer, chat

MODEL = "llama3.2:3b"
CHAT = "/v1/chat/completions"
MANY = 1_000_000
SOON_S = 10.0


class Outcome(Struct):
    """One call as its client saw it. `code`: of the error it ended with, "" for none, also within a stream."""

    reply: httpx.Response
    took_s: float

    @property
    def status(self) -> int:
        return self.reply.status_code

    @property
    def backend(self) -> str:
        return self.reply.headers.get("x-gateway-backend", "")

    @property
    def code(self) -> str:
        last = self.frames[-1] if self.frames else {}
        return str(last["error"]["code"]) if "error" in last else ""

    @property
    def ended_well(self) -> bool:
        return self.status == 200 and not self.code

    @property
    def frames(self) -> list[dict[str, Any]]:
        """Every object of the answer. A line that is none fails the test, and so does a [DONE] beside an error."""
        if not self.reply.headers["content-type"].startswith("text/event-stream"):
            return [self.reply.json()]
        said = [line.removeprefix("data: ") for line in self.reply.text.splitlines() if line.startswith("data: ")]
        frames = [json.loads(one) for one in said if one != "[DONE]"]
        assert ("[DONE]" in said) == ("error" not in frames[-1]), said[-2:]
        return frames


class Outcomes(list[Outcome]):
    """Many of them."""

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self)

    @property
    def backends(self) -> Counter[str]:
        return Counter(one.backend for one in self)

    def share_ms(self, share: float) -> float:
        """The time that this share of the calls took at most."""
        return sorted(one.took_s for one in self)[min(int(len(self) * share), len(self) - 1)] * 1000


class Scene:
    """One key without limits that are felt. Calls go to one replica after the other, each with words of its own: nodes
    are preferred for what they have been asked before."""

    def __init__(self, world: World, fleet: Nodes, key: str) -> None:
        self.world = world
        self.fleet = fleet
        self.key = key
        self._operator = Operator(world)
        self._calls = 0

    async def call(self, path: str = CHAT, body: dict[str, Any] | None = None, **fields: Any) -> Outcome:
        url = self.world.replicas[self._calls % len(self.world.replicas)][1]
        self._calls += 1
        began_s = time.monotonic()
        asked = body or chat(**{"content": f"call {self._calls}: why?"} | fields)
        reply = await self.world.http.post(url + path, headers=bearer(self.key), json=asked)
        return Outcome(reply, time.monotonic() - began_s)

    async def calls(self, count: int, at_once: int = 1, **fields: Any) -> Outcomes:
        """So many, each of `at_once` clients one after the other."""
        outcomes, left = Outcomes(), iter(range(count))

        async def client() -> None:
            for _ in left:
                outcomes.append(await self.call(**fields))

        await asyncio.gather(*(client() for _ in range(at_once)))
        return outcomes

    async def calls_while(self, runs: Callable[[], bool], a_second: float, **fields: Any) -> Outcomes:
        """At a steady pace, whatever becomes of the calls before."""
        tasks: list[asyncio.Task[Outcome]] = []
        while runs():
            tasks.append(asyncio.create_task(self.call(**fields)))
            await asyncio.sleep(1 / a_second)
        return Outcomes(await asyncio.gather(*tasks))

    def name(self, node: FakeOllama) -> str:
        return node.url.partition("://")[2]

    async def seen(self, node: FakeOllama) -> dict[str, Any]:
        """What the admin API says of it."""
        return await self._operator.get(f"/backends/{self.name(node)}")

    async def until_seen(
        self, node: FakeOllama, wanted: Callable[[dict[str, Any]], Any], within_s: float = SOON_S
    ) -> float:
        """Seconds until it is said so."""
        began_s = time.monotonic()
        async with asyncio.timeout(within_s):
            while not wanted(await self.seen(node)):
                await asyncio.sleep(POLL_S)
        return time.monotonic() - began_s

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.lines() if line.get("event") == event]

    def lines(self) -> Iterator[dict[str, Any]]:
        """All that the replicas have logged."""
        for number in range(len(self.world.replicas)):
            for line in self.world.log(f"replica-{number}").splitlines():
                if line.startswith("{"):
                    yield json.loads(line)


@asynccontextmanager
async def scene(
    start: Start, fleet: Nodes, *, warm: bool = True, replicas: int = 1, **env: str
) -> AsyncIterator[Scene]:
    """The system is up, with the headers that say which node answered; `warm`: all nodes have MODEL loaded."""
    for node in fleet if warm else ():
        if MODEL in node.shelf.models:
            node.shelf.load(node.shelf.models[MODEL])
    async with start(fleet.urls, replicas=replicas, ROUTING_HEADERS="true", **env) as world:
        key = await world.create_key(rate_limit_per_min=MANY, monthly_token_limit=10**9)
        yield Scene(world, fleet, key)
