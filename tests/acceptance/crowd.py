"""Many clients that call without a pause, and what each was told when."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
from msgspec import Struct

from tests.world import World, bearer, chat

PATH = "/v1/chat/completions"


class Told(Struct):
    """One call: seconds of its start and end (monotonic), and the answer."""

    began_s: float
    ended_s: float
    replica: int
    reply: httpx.Response

    @property
    def status(self) -> int:
        return self.reply.status_code


class Crowd:
    """So many clients with one key, spread over all replicas; each calls until `stop`. `fields`: of every request."""

    def __init__(self, world: World, key: str, clients: int, *, think_s: float = 0.0, **fields: Any) -> None:
        self._world = world
        self._key = key
        self._clients = clients
        self._fields = fields
        self._think_s = think_s
        """between a client's calls: without it a crowd takes all of a small machine, its operator's part too"""
        self._stopped = False
        self._heard = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.told: list[Told] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._clients)]

    async def stop(self) -> None:
        """Whatever is still running ends first."""
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def leave(self) -> None:
        """All clients go at once, without waiting for their answers."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def until(self, holds: Callable[["Crowd"], Any]) -> None:
        """Wait for the answer after which it is so."""
        while not holds(self):
            self._heard.clear()
            await self._heard.wait()
            for task in self._tasks:
                if task.done() and not self._stopped:
                    task.result()

    def since(self, began_s: float) -> list[Told]:
        """What was told of calls that began later."""
        return [one for one in self.told if one.began_s > began_s]

    def statuses(self, began_s: float = 0.0) -> Counter[int]:
        return Counter(one.status for one in self.since(began_s))

    async def _client(self, number: int) -> None:
        replica = number % len(self._world.replicas)
        url = self._world.replicas[replica][1] + PATH
        while not self._stopped:
            began_s = time.monotonic()
            reply = await self._world.http.post(url, headers=bearer(self._key), json=chat(**self._fields))
            self.told.append(Told(began_s, time.monotonic(), replica, reply))
            self._heard.set()
            await asyncio.sleep(self._think_s)
