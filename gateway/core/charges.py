"""What a call was charged, as its event tells it: also one that no row can be made of, for Redis has charged it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal
from uuid import UUID

from msgspec import Struct


class Owner(Struct, frozen=True):
    """A key or a team."""

    kind: Literal["key", "team"]
    id: str


class Charge(Struct, frozen=True, kw_only=True):
    """One settled call. Its row, once there is one, has this `id` and this time."""

    id: str
    at_ms: int
    month: str
    """whose allowance was charged: UTC, YYYYMM"""
    key_id: str
    team_id: str = ""
    tokens: int
    credits_micro: int
    team_credits_micro: int = 0

    def owners(self) -> list[Owner]:
        """Who was charged."""
        key = Owner("key", self.key_id)
        return [key, Owner("team", self.team_id)] if self.team_id else [key]

    def micro_of(self, owner: Owner) -> int:
        return self.credits_micro if owner.kind == "key" else self.team_credits_micro


class Backlog(Struct, frozen=True, kw_only=True):
    """What was charged and may be no row yet: how many events wait, how many of them are set aside, and what they say.
    `whole`: whether all were read."""

    charges: Sequence[Charge]
    events: int
    dead: int
    whole: bool


def read(fields: Mapping[bytes, bytes]) -> Charge | None:
    """Of a stream entry's fields; None where they do not tell."""
    try:
        prompt, completion, credits_micro = (int(fields[name]) for name in (b"prompt", b"completion", b"credits"))
        team_credits_micro = int(fields.get(b"team_credits", b"0"))
        if min(prompt, completion, credits_micro, team_credits_micro) < 0:
            return None
        return Charge(
            id=str(UUID(fields[b"id"].decode("ascii"))),
            at_ms=int(fields[b"at"]),
            month=fields[b"month"].decode("ascii"),
            key_id=fields[b"key"].decode("ascii"),
            team_id=fields.get(b"team", b"").decode("ascii"),
            tokens=prompt + completion,
            credits_micro=credits_micro,
            team_credits_micro=team_credits_micro,
        )
    except (KeyError, ValueError):
        return None


def by_owner(charges: Iterable[Charge]) -> dict[Owner, list[Charge]]:
    found: dict[Owner, list[Charge]] = {}
    for charge in charges:
        for owner in charge.owners():
            found.setdefault(owner, []).append(charge)
    return found
