"""Dead events: those that no row could be made of. They are listed, and put back to be tried again; never dropped."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from redis.exceptions import ResponseError

from gateway.errors import LimitsUnavailable
from gateway.state import keyspace
from gateway.state.functions import Calls, Functions

FIELDS = (
    "v", "id", "key", "team", "at", "month", "prompt", "completion", "credits", "team_credits", "estimated", "detail",
)  # fmt: skip
"""of an event, as settle writes them; what else an entry may hold is counted and not shown"""
REASON, FIRST_ENTRY = b"dead_reason", b"dead_entry"
VALUE_CHARS_MAX = 1_000
EVENTS_A_LOOK = 100
REPLAYED_AT_ONCE = 100
REPLAYED_MAX = 10_000
"""of one request; `left` says that there are more"""
CALLS_AT_ONCE = 64
NUMBER_MAX = 2**64 - 1
DIED_MS_MAX = 253_402_300_799_999
"""the end of the year 9999; ids that people have written may say anything"""
_ID = re.compile(r"(\d{1,3}):(\d{1,20})-(\d{1,20})", re.ASCII)

Place: TypeAlias = tuple[int, str]
"""the shard, and the entry's id there"""
FIRST: Place = (0, "0-0")
"""before all entries"""


class DeadEvent(Struct, frozen=True, kw_only=True):
    """An entry of a shard's dead stream. `entry` is the one it was in the usage stream before."""

    place: Place
    reason: str
    entry: str
    fields: dict[str, str]
    others: int
    """fields that no event has"""

    @property
    def id(self) -> str:
        return id_of(self.place)

    @property
    def died_ms(self) -> int:
        return min(int(self.place[1].partition("-")[0]), DIED_MS_MAX)


def id_of(place: Place) -> str:
    """How operators name it."""
    return f"{place[0]}:{place[1]}"


def place_of(text: str, shards: int) -> Place | None:
    """The place that `id_of` named; None for a text that names none."""
    found = _ID.fullmatch(text)
    if not found or int(found[1]) >= shards or max(int(found[2]), int(found[3])) > NUMBER_MAX:
        return None
    return int(found[1]), f"{int(found[2])}-{int(found[3])}"


class DeadEvents:
    """Every method raises `LimitsUnavailable`."""

    def __init__(self, redis: Calls, functions: Functions, shards: int) -> None:
        self._redis = redis
        self._functions = functions
        self.shards = shards

    async def page(self, after: Place, limit: int) -> list[DeadEvent]:
        """Up to `limit` of them behind `after`: shard by shard, oldest first."""
        found: list[DeadEvent] = []
        shard, last = after
        while shard < self.shards and len(found) < limit:
            wanted = min(EVENTS_A_LOOK, limit - len(found))
            page = await self._call("XRANGE", keyspace.usage_dead(shard), f"({last}", "+", "COUNT", wanted)
            found += [_event(shard, entry.decode(), fields) for entry, fields in page]
            shard, last = (shard, page[-1][0].decode()) if len(page) == wanted else (shard + 1, FIRST[1])
        return found

    async def count(self) -> int:
        """How many there are."""
        lengths = [self._call("XLEN", keyspace.usage_dead(shard)) for shard in range(self.shards)]
        return sum(await asyncio.gather(*lengths))

    async def replay(self, places: Sequence[Place]) -> int:
        """Put these back; how many were there. Asked again, those that are back already are not moved twice."""
        moved = 0
        for start in range(0, len(places), CALLS_AT_ONCE):
            some = places[start : start + CALLS_AT_ONCE]
            replies = await asyncio.gather(*(self._replay(shard, entry, entry, 1) for shard, entry in some))
            moved += sum(reply[1] for reply in replies)
        return moved

    async def replay_all(self) -> int:
        """Put back those that are there now, `REPLAYED_MAX` at most; how many. What dies again meanwhile is not met."""
        moved = 0
        for shard in range(self.shards):
            newest = await self._call("XREVRANGE", keyspace.usage_dead(shard), "+", "-", "COUNT", 1)
            first, last = "-", newest[0][0].decode() if newest else ""
            while last and moved < REPLAYED_MAX:
                count = min(REPLAYED_AT_ONCE, REPLAYED_MAX - moved)
                looked, put_back, seen = await self._replay(shard, first, last, count)
                moved += put_back
                if looked < count:
                    break
                first = f"({seen.decode()}"
        return moved

    async def _replay(self, shard: int, first: str, last: str, count: int) -> Any:
        names = [keyspace.usage(shard), keyspace.usage_dead(shard)]
        return await self._functions.call("replay", names, [first, last, count])

    async def _call(self, *command: Any) -> Any:
        try:
            return await self._redis.call(*command)
        except ResponseError as error:
            raise LimitsUnavailable from error


def _event(shard: int, entry: str, fields: Mapping[bytes, bytes]) -> DeadEvent:
    told = {name: _text(fields[name.encode()]) for name in FIELDS if name.encode() in fields}
    return DeadEvent(
        place=(shard, entry),
        reason=_text(fields.get(REASON, b"")),
        entry=_text(fields.get(FIRST_ENTRY, b"")),
        fields=told,
        others=len(fields.keys() - {REASON, FIRST_ENTRY}) - len(told),
    )


def _text(value: bytes) -> str:
    """As people read it; what is too long is cut."""
    return value[: 4 * VALUE_CHARS_MAX].decode(errors="backslashreplace")[:VALUE_CHARS_MAX]
