"""The checker of ledgers: it passes a bucket that is right, and finds a single entry that is not."""

from random import Random

import pytest
from msgspec.structs import replace

from tests.buckets import Kept, Rate, per_minute
from tests.ledger import Balance, Entry, balance, in_order, overshoot

START_US = 1_795_292_735_107_000
RATES = [per_minute(60), per_minute(7), per_minute(999, 20), per_minute(99_999_999)]


def made(rate: Rate, chance: Random, count: int = 200) -> tuple[list[Entry], Kept, int]:
    """A bucket that is right: its admissions, how it ends, the units that were cut off at full."""
    level, at_us, entries, cut_off = rate.full, START_US, [], 0
    for _ in range(count):
        gap_us = chance.choice([0, 1, 1_000, 40_000_000])
        gained = level + gap_us * rate.num
        cut_off += max(0, gained - rate.full)
        level, at_us = min(gained, rate.full), at_us + gap_us
        cost = chance.randint(1, rate.full // rate.den)
        if cost * rate.den <= level:
            level -= cost * rate.den
            entries.append(Entry(cost, at_us, level))
    return entries, Kept(entries[-1].level, entries[-1].at_us, rate.den), cut_off


@pytest.fixture(params=RATES, ids=str)
def rate(request: pytest.FixtureRequest) -> Rate:
    return request.param


def checked(rate: Rate, entries: list[Entry], end: Kept, admitted: int | None = None) -> Balance:
    start = Kept(rate.full, START_US, rate.den)
    return balance(rate, start, end, entries, len(entries) if admitted is None else admitted)


def test_a_bucket_that_is_right_passes_with_what_was_cut_off(rate: Rate, seed: str) -> None:
    entries, end, _ = made(rate, Random(seed))
    assert len(entries) > 20
    found = checked(rate, entries, end)
    assert found.error == 0
    gained = (end.at_us - START_US) * rate.num
    assert found.taken + end.level + found.cut_off == rate.full + gained
    assert found.cut_off > 0
    assert overshoot(rate, entries) <= 0


def test_the_order_of_the_entries_does_not_matter(rate: Rate, seed: str) -> None:
    chance = Random(seed)
    entries, end, _ = made(rate, chance)
    assert checked(rate, in_order(chance.sample(entries, len(entries))), end).error == 0


def test_an_entry_that_is_missing_doubled_or_changed_is_found_wherever_it_is(rate: Rate, seed: str) -> None:
    entries, end, _ = made(rate, Random(seed))
    for i, entry in enumerate(entries):
        corrupted = {
            "missing": entries[:i] + entries[i + 1 :],
            "doubled": [*entries[: i + 1], *entries[i:]],
            "one more": [*entries[:i], replace(entry, cost=entry.cost + 1), *entries[i + 1 :]],
            "one less": [*entries[:i], replace(entry, cost=entry.cost - 1), *entries[i + 1 :]],
            "a unit": [*entries[:i], replace(entry, level=entry.level + 1), *entries[i + 1 :]],
        }
        for what, wrong in corrupted.items():
            assert checked(rate, wrong, end, len(entries)).error > 0, (what, i)


def test_an_end_that_does_not_follow_is_found(rate: Rate, seed: str) -> None:
    entries, end, _ = made(rate, Random(seed))
    for changes in ({"level": end.level - 1}, {"level": end.level + 1}, {"at_us": end.at_us + 1}):
        assert checked(rate, entries, replace(end, **changes)).error > 0


def test_one_token_more_than_a_bucket_holds_is_an_overshoot_in_any_stretch_of_time() -> None:
    rate = per_minute(60)
    second_us = 1_000_000
    fair = [Entry(60, START_US, 0), Entry(1, START_US + second_us, 0), Entry(30, START_US + 31 * second_us, 0)]
    assert overshoot(rate, fair) == 0
    early = [fair[0], replace(fair[1], at_us=fair[1].at_us - 1), fair[2]]
    assert overshoot(rate, early) == rate.num
    assert overshoot(rate, [Entry(1, START_US - second_us, 0), *early]) == rate.num
    assert overshoot(rate, [replace(fair[0], cost=61), *fair[1:]]) == rate.den
