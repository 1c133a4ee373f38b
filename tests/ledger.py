"""What a bucket was let give, checked to the unit: the proof of conservation and of the bound (reliability 5.7).

An entry is one admission: what it took, when, and what was left then. Between two entries a bucket gains num units a
microsecond and is cut off at full; so each level follows from the one before it, and nothing is left to a tolerance. An
entry that is missing before a bucket was full shows in no level: therefore they are counted too.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from tests.buckets import Kept, Rate


class Entry(Struct, frozen=True):
    """One admission: tokens taken, microseconds on Redis' clock, level after it in units."""

    cost: int
    at_us: int
    level: int


class Balance(Struct, frozen=True):
    """In units. `error` is what was lost or made, anywhere: 0 in a bucket that is right."""

    error: int
    taken: int
    cut_off: int


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """By time; within one microsecond the fuller bucket came first."""
    return sorted(entries, key=lambda entry: (entry.at_us, -entry.level))


def balance(rate: Rate, before: Kept, after: Kept, entries: Sequence[Entry], admitted: int) -> Balance:
    """Taken + left + cut off at full = there before + gained; `entries` in order, `admitted` of them."""
    level, at_us, taken, cut_off = before.level, before.at_us, 0, 0
    error = abs(len(entries) - admitted)
    for entry in entries:
        gained = level + (entry.at_us - at_us) * rate.num
        cut_off += max(0, gained - rate.full)
        left = min(gained, rate.full) - entry.cost * rate.den
        error += abs(left - entry.level)
        taken += entry.cost * rate.den
        level, at_us = entry.level, entry.at_us
    error += abs(after.level - level) + abs(after.at_us - at_us)
    return Balance(error, taken, cut_off)


def overshoot(rate: Rate, entries: Sequence[Entry]) -> int:
    """Units by which any stretch of time saw more than a full bucket and its gain; 0 or less: none did.

    The worst stretch that ends at an entry either begins with it or is the worst one before, gone on.
    """
    worst, most, at_us = 0, 0, 0
    for entry in entries:
        worst = max(0, worst - (entry.at_us - at_us) * rate.num) + entry.cost * rate.den
        most, at_us = max(most, worst), entry.at_us
    return most - rate.full
