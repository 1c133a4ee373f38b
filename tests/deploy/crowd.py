"""Clients that call through Caddy without a pause, and the ledger they keep. None of them repeats a call."""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from tests.deploy.chats import Outcome, ask, draw

SILENCE_S_MAX = 30.0
REST_S = 0.2
"""after a call that failed, so that an outage is not all that clients see"""


class Crowd:
    """`size` clients of the gateway at `url`. `phase` is what is being done to it, and may be set at any time."""

    def __init__(self, url: str, keys: Sequence[str], trust: ssl.SSLContext, seed: str, *, pause_s: float = 0) -> None:
        self._url = url
        self._keys = keys
        self._trust = trust
        self._seed = seed
        self._pause_s = pause_s
        self._stopping = asyncio.Event()
        self.phase = "quiet"
        self.outcomes: list[Outcome] = []

    @asynccontextmanager
    async def calling(self, size: int) -> AsyncIterator[None]:
        """While inside; every call that has begun is ended."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S_MAX, sock_connect=SILENCE_S_MAX)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._trust)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
            for number in range(size):
                group.create_task(self._live(session, random.Random(f"{self._seed}:{number}")))
            try:
                yield
            finally:
                self._stopping.set()

    async def until(self, calls: int, within_s: float) -> None:
        """So many more have ended, or the time is over."""
        wanted = len(self.outcomes) + calls
        try:
            async with asyncio.timeout(within_s):
                while len(self.outcomes) < wanted:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return

    def failures(self, *phases: str) -> list[str]:
        return [
            f"{one.phase}: {one.chat.path}: {one.failure}"
            for one in self.outcomes
            if one.failure and one.phase in phases
        ]

    def figures(self) -> str:
        """A line for each phase."""
        ended = Counter(one.phase for one in self.outcomes)
        failed = Counter(one.phase for one in self.outcomes if one.failure)
        kinds = Counter((one.phase, one.failure[:140]) for one in self.outcomes if one.failure)
        lines = [f"  {phase:<20} {calls:>6} calls {failed[phase]:>5} failed" for phase, calls in ended.items()]
        lines += [f"    {count:>4} x in {phase}: {kind}" for (phase, kind), count in kinds.most_common(12)]
        return "\n".join(lines)

    async def _live(self, session: aiohttp.ClientSession, chance: random.Random) -> None:
        while not self._stopping.is_set():
            phase = self.phase
            outcome = await ask(session, self._url, chance.choice(self._keys), draw(chance), phase)
            self.outcomes.append(outcome)
            pause_s = REST_S if outcome.failure else self._pause_s
            if pause_s:
                await asyncio.sleep(pause_s)
