"""What a chaos run kills: each part of a whole system, and how it is started again where it was."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
from msgspec import Struct
from msgspec.structs import replace

from gateway.dev.process import Child
from tests.chaos.crowd import Crowd
from tests.chaos.ledgers import Fault, Kind

START_S_MAX = 60.0
DOWN_S_MAX = 1.5
CALLS_BETWEEN = (2, 60)
"""calls that are answered between two kills"""
PAUSE_S_MAX = 3.0
"""between two kills, when few are"""
POLL_S = 0.02
SHARES: tuple[tuple[Kind, int], ...] = (("gateway", 6), ("worker", 5), ("redis", 4), ("postgres", 2), ("node", 3))
"""of twenty kills"""


async def _at_once() -> None:
    """For what serves as soon as it is ready, or whose calls tell when it does."""


class Victim(Struct):
    """`child` is the process of now; `start` returns when the next one is ready, `serves` when it is of use."""

    kind: Kind
    name: str
    child: Callable[[], Child]
    start: Callable[[], Awaitable[None]]
    serves: Callable[[], Awaitable[None]] = _at_once
    up: bool = True


class Killer:
    """Kills at random, and starts again what it has killed. `faults` is its log."""

    def __init__(self, victims: Sequence[Victim], crowd: Crowd, chance: random.Random) -> None:
        self._victims = victims
        self._crowd = crowd
        self._chance = chance
        self.faults: list[Fault] = []

    async def run(self, kills: int) -> None:
        """So many kills, amid traffic. Several victims may be down at once. Returns when all are up again."""
        async with asyncio.TaskGroup() as group:
            for kind in self._order(kills):
                await self._crowd.served(self._chance.randint(*CALLS_BETWEEN), PAUSE_S_MAX)
                victim = await self._one(kind)
                victim.up = False
                group.create_task(self._kill(victim, self._chance.uniform(0, DOWN_S_MAX)))

    def _order(self, kills: int) -> list[Kind]:
        twenty = [kind for kind, share in SHARES for _ in range(share)]
        order: list[Kind] = []
        while len(order) < kills:
            order += self._chance.sample(twenty, len(twenty))
        return order[:kills]

    async def _one(self, kind: Kind) -> Victim:
        """One of its kind that is up, as soon as there is one."""
        async with asyncio.timeout(START_S_MAX):
            while not (those := [one for one in self._victims if one.kind == kind and one.up]):
                await asyncio.sleep(POLL_S)
        return self._chance.choice(those)

    async def _kill(self, victim: Victim, down_s: float) -> None:
        killed_s = time.time()
        await victim.child().kill()
        dead_s = time.time()
        await asyncio.sleep(down_s)
        async with asyncio.timeout(START_S_MAX):
            await victim.start()
        fault = Fault(kind=victim.kind, name=victim.name, killed_s=killed_s, dead_s=dead_s, up_s=time.time())
        async with asyncio.timeout(START_S_MAX):
            await victim.serves()
        self.faults.append(replace(fault, serves_s=time.time()))
        victim.up = True


async def answers(http: httpx.AsyncClient, child: Child, url: str) -> None:
    """Return when `url` is answered 200. Fails when its process ends before that."""
    while True:
        assert child.running, f"{child.name} has ended:\n{child.tail()}"
        try:
            if (await http.get(url, timeout=2)).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(POLL_S)
