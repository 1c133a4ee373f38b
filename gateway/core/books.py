"""What Redis and Postgres say of one key or team, and whether it agrees. Credits in millionths.

What an owner was granted stands in the grants, in its own row and in its record in Redis. What its calls took stands in
the sums of its months, in the events that are not rows yet, and in its account in Redis: credits ever, and tokens month
by month. Balance = granted - charged.

Calls settle while one looks, so some figures are only known to lie between two others. Those that are not moving lie
between two equal ones, which is a proof.
"""

from collections.abc import Collection, Sequence
from typing import Literal

from msgspec import Struct

from gateway.core.charges import Charge, Owner

What = Literal["grants", "granted", "charged", "tokens", "rows", "hourly", "daily"]
Unit = Literal["calls", "tokens", "prompt_tokens", "completion_tokens", "credits"]


class Balance(Struct, frozen=True, kw_only=True):
    """What Redis says of an owner at one moment. None: it does not know it."""

    granted_micro: int | None = None
    charged_micro: int | None = None
    tokens: int | None = None
    """spent in the month that is looked at"""


class Between(Struct, frozen=True):
    """At least and at most. `most` is None where nobody knows."""

    least: int = 0
    most: int | None = 0


class Waiting(Struct, frozen=True):
    """What events took that may not be rows yet."""

    micro: Between = Between()
    tokens: Between = Between()
    """of the month that is looked at"""


class Entry(Struct, frozen=True, kw_only=True):
    """All that is known of one owner. The sums were read between `before` and `after`."""

    owner: Owner
    grants_micro: int
    """the sum of its grants"""
    granted_micro: int
    """what its own row says they are"""
    charged_micro: int
    """what its usage rows cost, of all months"""
    tokens: int
    """those of its usage rows of the month"""
    past: bool = False
    """the month is over: Redis may have forgotten its tokens"""
    waiting: Waiting
    before: Balance
    after: Balance


class Difference(Struct, frozen=True, kw_only=True):
    """Where two ledgers disagree; credits in millionths. None: nothing is there.

    `grants`: an owner's row and its grants; `granted`: Redis and its row; `charged` and `tokens`: Redis and its months'
    sums; `daily`: the days' sums and the month's, or what else there is of that day; `hourly`, `rows`: they and the
    day's sum.
    """

    owner: Owner
    what: What
    unit: Unit
    day: str | None = None
    """UTC, YYYY-MM-DD, where one day's figures disagree"""
    expected: int
    found: int | None


def differences(entry: Entry) -> list[Difference]:
    """What does not agree of one owner's figures; nothing where they do, or where what moves explains it."""
    found = []
    before, after, waits = entry.before, entry.after, entry.waiting
    if entry.granted_micro != entry.grants_micro:
        found.append(_difference(entry, "grants", entry.grants_micro, entry.granted_micro))
    if entry.granted_micro not in (before.granted_micro, after.granted_micro):
        found.append(_difference(entry, "granted", entry.granted_micro, after.granted_micro))
    if not _explains(entry.charged_micro, waits.micro, before.charged_micro, after.charged_micro):
        found.append(_difference(entry, "charged", entry.charged_micro + waits.micro.least, after.charged_micro))
    forgotten = entry.past and after.tokens is None
    if not forgotten and not _explains(entry.tokens, waits.tokens, before.tokens, after.tokens):
        found.append(_difference(entry, "tokens", entry.tokens + waits.tokens.least, after.tokens))
    return found


def waiting(
    owner: Owner,
    charges: Sequence[Charge],
    month: str,
    *,
    rows_before: Collection[str],
    rows_after: Collection[str],
    whole: bool,
) -> Waiting:
    """What `charges`, all of them the owner's, took beside its rows.

    `rows_before` and `rows_after` are the ids of those that were rows before and after the rows were summed. `whole`:
    whether these are all charges there are.
    """
    least = [one for one in charges if one.id not in rows_after]
    most = [one for one in charges if one.id not in rows_before]

    def micro(of: Sequence[Charge]) -> int:
        return sum(one.micro_of(owner) for one in of)

    def tokens(of: Sequence[Charge]) -> int:
        return sum(one.tokens for one in of if one.month == month)

    return Waiting(
        Between(micro(least), micro(most) if whole else None), Between(tokens(least), tokens(most) if whole else None)
    )


def _explains(stored: int, waits: Between, before: int | None, after: int | None) -> bool:
    """Whether what its calls took is, at some moment in between, what Redis has counted; that only ever grows."""
    return stored + waits.least <= (after or 0) and (waits.most is None or (before or 0) <= stored + waits.most)


def _difference(entry: Entry, what: What, expected: int, found: int | None) -> Difference:
    unit: Unit = "tokens" if what == "tokens" else "credits"
    return Difference(owner=entry.owner, what=what, unit=unit, expected=expected, found=found)
