"""Replays of dead events: each is asked for by somebody, and the audit log has it."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from gateway.admin import audit
from gateway.admin.author import Author
from gateway.admin.claim import answer, claim
from gateway.admin.postgres import Postgres
from gateway.state.dead import Place, id_of

ACTION, OBJECT = "replay", "usage:dead"
NAMED_MAX = 100
"""ids that an entry of the audit log repeats"""


class Dead(Protocol):
    """Redis' part. Every method raises `LimitsUnavailable`."""

    async def count(self) -> int: ...

    async def replay(self, places: Sequence[Place]) -> int: ...

    async def replay_all(self) -> int: ...


class Replayed(Struct, frozen=True):
    """How many events were put back, and how many are dead still."""

    replayed: int
    left: int


class Replays:
    """Raises `StoreUnavailable` and `LimitsUnavailable`: then some may be put back, and it can be asked again."""

    def __init__(self, postgres: Postgres, dead: Dead) -> None:
        self._postgres = postgres
        self._dead = dead

    async def replay(self, by: Author, places: Sequence[Place] | None) -> Replayed:
        """Put these back to where workers read, or as many of all as one request may.

        While Postgres is away no row could be made of them, so nothing is put back.
        """
        async with self._postgres.change("replay") as connection:
            if (again := await claim(connection, by)) is not None:
                return _read(again)
            before = await self._dead.count()
            moved = await (self._dead.replay_all() if places is None else self._dead.replay(places))
            done = Replayed(moved, await self._dead.count())
            shown = {"dead": done.left, "replayed": moved, "asked": _named(places)}
            await audit.write(connection, by, ACTION, OBJECT, {"dead": before}, shown)
            await answer(connection, by, f"{done.replayed} {done.left}")
            return done


def _named(places: Sequence[Place] | None) -> str | list[str]:
    return "all" if places is None else [id_of(place) for place in places[:NAMED_MAX]]


def _read(remembered: str) -> Replayed:
    replayed, left = remembered.split()
    return Replayed(int(replayed), int(left))
