"""The clients of a chaos run, and the ledger they keep. None of them ever repeats a call."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

import aiohttp
import msgspec
from msgspec import Struct

from gateway.core.addresses import digits, hashed
from tests.chaos.asking import Request, Said, draw, read_line, read_object
from tests.chaos.ledgers import Call, End
from tests.world import bearer

REST_S = 0.2
"""after a call that did not go well, so that a dead replica is not all that clients see"""
SILENCE_S_MAX = 30.0
"""no call may be without a word for so long"""


class Account(Struct, frozen=True):
    """A key as its clients know it."""

    key_id: str
    secret: str


class Crowd:
    """`size` clients that call without a pause, each with chances of its own."""

    def __init__(self, urls: Sequence[str], accounts: Sequence[Account], seed: str) -> None:
        self._urls = urls
        self._accounts = accounts
        self._seed = seed
        self._numbers = count(1)
        self._stopping = False
        self._ended = asyncio.Event()
        self.calls: list[Call] = []
        self.finished = 0
        """how many of them got their whole answer"""

    async def run(self, size: int) -> None:
        """Until `stop`; every call that has begun is ended."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S_MAX)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
            for number in range(size):
                group.create_task(self._live(session, random.Random(f"{self._seed}:{number}")))

    def stop(self) -> None:
        self._stopping = True

    async def served(self, calls: int, within_s: float) -> None:
        """Return when so many more calls have got their answers, or after a while."""
        wanted = self.finished + calls
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.finished < wanted:
                    self._ended.clear()
                    await self._ended.wait()

    async def _live(self, session: aiohttp.ClientSession, chance: random.Random) -> None:
        while not self._stopping:
            call = await self._call(session, chance)
            self.calls.append(call)
            self.finished += call.end == "finished"
            self._ended.set()
            if call.end != "finished":
                await asyncio.sleep(REST_S)

    async def _call(self, session: aiohttp.ClientSession, chance: random.Random) -> Call:
        number = next(self._numbers)
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        replica, account = chance.randrange(len(self._urls)), chance.choice(self._accounts)
        asked = draw(chance, f"call-{number}-{chance.randrange(10**6)}")
        talk = Talk(session, self._urls[replica] + asked.path, asked)
        began_s = time.time()
        end = await talk.end(bearer(account.secret) | {"x-forwarded-for": address})
        return Call(
            mark=hashed(digits(address) or "", b""),
            tag=_tag(asked),
            key_id=account.key_id,
            path=asked.path,
            streamed=asked.streamed,
            replica=f"gateway-{replica}",
            prompt_tokens_max=asked.prompt_tokens_max,
            began_s=began_s,
            ended_s=time.time(),
            end=end,
            status=talk.status,
            code=talk.said.code,
            request_id=talk.request_id,
            end_user=asked.end_user,
            arrivals=tuple(talk.arrivals),
            told=talk.said.told if end == "finished" else None,
        )


class Talk:
    """One request and what came of it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, asked: Request) -> None:
        self._session = session
        self._url = url
        self._asked = asked
        self.said = Said()
        self.status = 0
        self.request_id = ""
        self.arrivals: list[float] = []

    async def end(self, headers: dict[str, str]) -> End:
        try:
            async with asyncio.timeout(self._asked.leave_s):
                return await self._answer(headers)
        except aiohttp.ClientConnectorError:
            return "unreached"
        except TimeoutError:  # aiohttp's own time-outs are errors of its
            return "left"
        except (aiohttp.ClientError, ConnectionError):
            return "broken"

    async def _answer(self, headers: dict[str, str]) -> End:
        try:
            async with self._session.post(self._url, json=self._asked.body, headers=headers) as response:
                self.status = response.status
                self.request_id = response.headers.get("x-request-id", "")
                if not self._asked.streamed or response.status != 200:
                    read_object(msgspec.json.decode(await response.read()), self.said)
                    return "failed" if self.said.failed else "finished"
                async for line in response.content:
                    tokens = self.said.tokens
                    read_line(line.rstrip(), self.said)
                    self.arrivals += [time.time()] * (self.said.tokens - tokens)
        except aiohttp.ServerTimeoutError as error:
            raise aiohttp.ClientError from error
        if self.said.failed:
            return "failed"
        return "finished" if self.said.done else "broken"


def _tag(asked: Request) -> str:
    text = asked.body.get("prompt") or asked.body.get("input") or asked.body["messages"][0]["content"]
    return str(text).split(" ", 1)[0]
