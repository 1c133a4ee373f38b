"""What Redis knows of everybody's credits: balances, and the events of calls that are not rows yet. Only read here."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from gateway.core import usage
from gateway.core.books import Balance, Owner
from gateway.core.usage import UsageEvent
from gateway.errors import KeysNotLoaded, LimitsUnavailable
from gateway.state import keyspace
from gateway.state.functions import Calls

OWNERS_AT_ONCE = 64
EVENTS_A_PAGE = 1_000
EVENTS_MAX = 100_000


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

    async def balances(self, owners: Sequence[Owner]) -> dict[Owner, Balance]:
        found: list[Balance] = []
        for start in range(0, len(owners), OWNERS_AT_ONCE):
            found += await asyncio.gather(*map(self._balance, owners[start : start + OWNERS_AT_ONCE]))
        return dict(zip(owners, found, strict=True))

    async def events(self, at_most: int = EVENTS_MAX) -> tuple[list[UsageEvent], bool]:
        """The events of all shards, and whether that is all of them. Those that no row can be made of are left out."""
        events: list[UsageEvent] = []
        read = 0
        for shard in range(self._shards):
            async for page in self._pages(keyspace.usage(shard)):
                if read + len(page) > at_most:
                    return events, False
                read += len(page)
                events += filter(None, map(_event, page))
        return events, True

    async def _balance(self, owner: Owner) -> Balance:
        names = (keyspace.KeyNames if owner.kind == "key" else keyspace.TeamNames)(owner.id, self._shards)
        record = names.key if isinstance(names, keyspace.KeyNames) else names.team
        granted, charged = await asyncio.gather(
            self._call("HGET", record, "granted"), self._call("HGET", names.account, "charged")
        )
        return Balance(granted_micro=_number(granted), charged_micro=_number(charged))

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


def _event(entry: tuple[bytes, dict[bytes, bytes]]) -> UsageEvent | None:
    try:
        return usage.decode(entry[1])
    except usage.BadEvent:
        return None


def _number(text: bytes | None) -> int | None:
    return int(text) if text else None
