"""What Redis knows of everybody's spending: balances, and the events of calls that are not rows yet. Only read here."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from gateway.core import charges
from gateway.core.books import Balance
from gateway.core.charges import Backlog, Charge, Owner
from gateway.errors import KeysNotLoaded, LimitsUnavailable
from gateway.state import keyspace
from gateway.state.functions import Calls

OWNERS_AT_ONCE = 64
EVENTS_A_PAGE = 1_000
EVENTS_MAX = 20_000


class RedisLedger:
    """Every method raises `LimitsUnavailable`."""

    def __init__(self, redis: Calls, shards: int) -> None:
        self._redis = redis
        self._shards = shards

    async def check_ready(self) -> None:
        """Raises `KeysNotLoaded` while some shard may lack owners."""
        found = await asyncio.gather(*(self._call("EXISTS", keyspace.ready(shard)) for shard in range(self._shards)))
        if not all(found):
            raise KeysNotLoaded

    async def now_us(self) -> int:
        """The clock that months go by: microseconds since 1970."""
        seconds, microseconds = await self._call("TIME")
        return int(seconds) * 1_000_000 + int(microseconds)

    async def balances(self, owners: Sequence[Owner], month: str) -> dict[Owner, Balance]:
        """Tokens are those of `month`, as YYYYMM."""
        found: list[Balance] = []
        for start in range(0, len(owners), OWNERS_AT_ONCE):
            some = owners[start : start + OWNERS_AT_ONCE]
            found += await asyncio.gather(*(self._balance(owner, month) for owner in some))
        return dict(zip(owners, found, strict=True))

    async def backlog(self, at_most: int = EVENTS_MAX) -> Backlog:
        """Of all shards. What is set aside meanwhile is read in both places, and counts once: by its id."""
        waits: dict[str, Charge] = {}
        read = events = dead = 0
        for shard in range(self._shards):
            events += await self._call("XLEN", keyspace.usage(shard))
            dead += await self._call("XLEN", keyspace.usage_dead(shard))
        if events + dead > at_most:  # nothing could be proved: not worth the memory
            return Backlog(charges=[], events=events, dead=dead, whole=False)
        for stream in (name(shard) for shard in range(self._shards) for name in (keyspace.usage, keyspace.usage_dead)):
            async for page in self._pages(stream):
                read += len(page)
                if read > at_most:
                    return Backlog(charges=list(waits.values()), events=events, dead=dead, whole=False)
                waits |= {charge.id: charge for _, fields in page if (charge := charges.read(fields))}
        return Backlog(charges=list(waits.values()), events=events, dead=dead, whole=True)

    async def _balance(self, owner: Owner, month: str) -> Balance:
        names = (keyspace.KeyNames if owner.kind == "key" else keyspace.TeamNames)(owner.id, self._shards)
        record = names.key if isinstance(names, keyspace.KeyNames) else names.team
        granted, (charged, tokens) = await asyncio.gather(
            self._call("HGET", record, "granted"), self._call("HMGET", names.account, "charged", f"spent:{month}")
        )
        return Balance(granted_micro=_number(granted), charged_micro=_number(charged), tokens=_number(tokens))

    async def _pages(self, stream: str) -> AsyncIterator[list[tuple[bytes, dict[bytes, bytes]]]]:
        start = b"-"
        while page := await self._call("XRANGE", stream, start, "+", "COUNT", EVENTS_A_PAGE):
            yield page
            start = b"(" + page[-1][0]

    async def _call(self, *command: Any) -> Any:
        try:
            return await self._redis.call(*command)
        except ResponseError as error:
            raise LimitsUnavailable from error


def _number(text: bytes | None) -> int | None:
    return int(text) if text else None
