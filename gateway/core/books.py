"""The three ledgers of credits, and whether they agree: grants, usage rows and Redis. All in millionths of a credit.

What an owner was granted stands in the grants, in its own row and in its record in Redis. What its calls cost stands in
the usage rows, in the events that are not rows yet, and in its account in Redis. Balance = granted - charged.

Calls settle while one looks, so some figures are only known to lie between two others. Those that are not moving lie
between two equal ones, which is a proof.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from gateway.core.usage import UsageEvent

What = Literal["grants", "granted", "charged"]


class Owner(Struct, frozen=True):
    """A key or a team."""

    kind: Literal["key", "team"]
    id: str


class Balance(Struct, frozen=True, kw_only=True):
    """What Redis says of an owner at one moment. None: it does not know it."""

    granted_micro: int | None = None
    charged_micro: int | None = None


class Waiting(Struct, frozen=True):
    """What events cost that may not be rows yet: at least and at most. `most` is None where not all could be read."""

    least_micro: int = 0
    most_micro: int | None = 0


class Entry(Struct, frozen=True, kw_only=True):
    """All that is known of one owner. The rows were read between `before` and `after`."""

    owner: Owner
    grants_micro: int
    """the sum of its grants"""
    granted_micro: int
    """what its own row says they are"""
    rows_micro: int
    """the sum of what its usage rows cost"""
    waiting: Waiting
    before: Balance
    after: Balance


class Difference(Struct, frozen=True, kw_only=True):
    """Where two ledgers disagree. `grants`: its row and its grants; `granted`: Redis and its row; `charged`: Redis and
    its calls. None: nothing is there."""

    owner: Owner
    what: What
    expected_micro: int
    found_micro: int | None


def differences(entry: Entry) -> list[Difference]:
    """What does not agree of one owner's figures; nothing where they do, or where what moves explains it."""
    found = []
    if entry.granted_micro != entry.grants_micro:
        found.append(_difference(entry, "grants", entry.grants_micro, entry.granted_micro))
    if entry.granted_micro not in (entry.before.granted_micro, entry.after.granted_micro):
        found.append(_difference(entry, "granted", entry.granted_micro, entry.after.granted_micro))
    if not _explains(entry):
        found.append(
            _difference(entry, "charged", entry.rows_micro + entry.waiting.least_micro, entry.after.charged_micro)
        )
    return found


def waiting(
    events: Iterable[UsageEvent], rows_before: set[str], rows_after: set[str], *, whole: bool
) -> dict[Owner, Waiting]:
    """What events cost each owner beside its rows: `rows_before` and `rows_after` are the ids of those that were rows
    before and after the rows were summed. `whole`: whether these are all events there are.
    """
    least: dict[Owner, int] = {}
    most: dict[Owner, int] = {}
    for event in events:
        for owner, micro in charges(event):
            least[owner] = least.get(owner, 0) + (micro if event.id not in rows_after else 0)
            most[owner] = most.get(owner, 0) + (micro if event.id not in rows_before else 0)
    return {owner: Waiting(least[owner], most[owner] if whole else None) for owner in most}


def charges(event: UsageEvent) -> list[tuple[Owner, int]]:
    """Who pays what for a call."""
    key = Owner("key", event.key_id), event.credits_micro
    return [key, (Owner("team", event.team_id), event.team_credits_micro)] if event.team_id else [key]


def _explains(entry: Entry) -> bool:
    """Whether what its calls cost is, at some moment in between, what Redis has charged; that only ever grows."""
    least = entry.rows_micro + entry.waiting.least_micro
    most = None if entry.waiting.most_micro is None else entry.rows_micro + entry.waiting.most_micro
    before, after = entry.before.charged_micro or 0, entry.after.charged_micro or 0
    return least <= after and (most is None or before <= most)


def _difference(entry: Entry, what: What, expected_micro: int, found_micro: int | None) -> Difference:
    return Difference(owner=entry.owner, what=what, expected_micro=expected_micro, found_micro=found_micro)
