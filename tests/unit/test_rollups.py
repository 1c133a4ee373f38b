"""Rows, hours, days and months of one key: the one that is wrong is named, whichever it is."""

from datetime import date
from random import Random
from typing import Any

import pytest

from gateway.core.books import Difference
from gateway.core.charges import Owner
from gateway.core.rollups import TEAM_CREDITS, UNITS, DaySums, MonthSums, days, of_day, of_month

DAY = date(2026, 11, 21)
RIGHT = (3, 40, 50, 60, 70)
DAY_SUMS = DaySums(key_id="k1", team_id="t1", daily=RIGHT, hourly=RIGHT, rows=RIGHT)


def with_one_more(place: int, by: int = 1) -> tuple[int, ...]:
    return tuple(figure + (by if place == number else 0) for number, figure in enumerate(RIGHT))


def day_sums(**changes: Any) -> DaySums:
    return DaySums(**{"key_id": "k1", "team_id": "t1", "daily": RIGHT, "hourly": RIGHT, "rows": RIGHT} | changes)


def test_what_agrees_has_no_differences() -> None:
    assert list(of_day(DAY_SUMS, DAY)) == []
    assert list(of_day(day_sums(hourly=None, rows=None), DAY)) == []
    assert list(of_month(MonthSums(key_id="k1", team_id="", monthly=RIGHT, daily=RIGHT))) == []


@pytest.mark.parametrize("what", ["daily", "hourly", "rows"])
@pytest.mark.parametrize("place", range(len(UNITS)))
def test_the_one_of_three_that_stands_alone_is_wrong(what: str, place: int, seed: int) -> None:
    random = Random(f"{seed} {what} {place}")
    by = random.choice([-1, 1]) * random.randint(1, RIGHT[place])
    owner = Owner("team", "t1") if place == TEAM_CREDITS else Owner("key", "k1")
    assert list(of_day(day_sums(**{what: with_one_more(place, by)}), DAY)) == [
        Difference(
            owner=owner,
            what=what,  # type: ignore[arg-type]
            unit=UNITS[place],
            day="2026-11-21",
            expected=RIGHT[place],
            found=RIGHT[place] + by,
        )
    ]


def test_where_that_is_not_clear_the_day_is_right() -> None:
    three = day_sums(hourly=with_one_more(0), rows=with_one_more(0, 2))
    assert [(one.what, one.expected, one.found) for one in of_day(three, DAY)] == [("hourly", 3, 4), ("rows", 3, 5)]
    two = day_sums(hourly=with_one_more(0), rows=None)
    assert [(one.what, one.expected, one.found) for one in of_day(two, DAY)] == [("hourly", 3, 4)]


@pytest.mark.parametrize("place", range(len(UNITS)))
def test_days_that_are_not_the_month_are_found(place: int) -> None:
    (found,) = of_month(MonthSums(key_id="k1", team_id="t1", monthly=RIGHT, daily=with_one_more(place, -1)))
    assert (found.what, found.unit, found.day) == ("daily", UNITS[place], None)
    assert (found.expected, found.found) == (RIGHT[place], RIGHT[place] - 1)
    assert found.owner == (Owner("team", "t1") if place == TEAM_CREDITS else Owner("key", "k1"))


def test_team_credits_without_a_team_are_the_keys() -> None:
    (found,) = of_month(MonthSums(key_id="k1", team_id="", monthly=RIGHT, daily=with_one_more(TEAM_CREDITS)))
    assert found.owner == Owner("key", "k1")


@pytest.mark.parametrize(("month", "count"), [("202611", 30), ("202612", 31), ("202702", 28), ("202802", 29)])
def test_a_month_has_all_its_days(month: str, count: int) -> None:
    found = days(month)
    assert len(found) == len(set(found)) == count
    assert {day.strftime("%Y%m") for day in found} == {month}
