"""The three ledgers of credits: one that is corrupted is always found, calls that settle meanwhile never are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.books import Balance, Entry, Owner, Waiting, differences, waiting
from gateway.core.usage import Detail, UsageEvent

KEY, TEAM = Owner("key", "k1"), Owner("team", "t1")
FINE = Entry(
    owner=KEY,
    grants_micro=100,
    granted_micro=100,
    rows_micro=30,
    waiting=Waiting(5, 5),
    before=Balance(granted_micro=100, charged_micro=35),
    after=Balance(granted_micro=100, charged_micro=35),
)


def event(number: int, micro: int, team_micro: int = 0, team: str = "") -> UsageEvent:
    return UsageEvent(
        id=f"00000000-0000-7000-8000-{number:012}",
        key_id=KEY.id,
        at_ms=1_800_000_000_000,
        month="202701",
        prompt_tokens=1,
        completion_tokens=1,
        credits_micro=micro,
        estimated=False,
        detail=Detail(),
        team_id=team,
        team_credits_micro=team_micro,
    )


def found(entry: Entry) -> list[tuple[str, int, int | None]]:
    return [(one.what, one.expected_micro, one.found_micro) for one in differences(entry)]


def test_what_agrees_has_no_differences() -> None:
    assert differences(FINE) == []


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        ("grants_micro", ["grants"]),
        ("granted_micro", ["grants", "granted"]),
        ("rows_micro", ["charged"]),
        ("waiting", ["charged"]),
        ("redis_granted", ["granted"]),
        ("redis_charged", ["charged"]),
    ],
)
def test_a_millionth_in_any_ledger_is_found(ledger: str, by: int, expected: list[str]) -> None:
    corrupt: dict[str, Any] = {
        "waiting": {"waiting": Waiting(5 + by, 5 + by)},
        "redis_granted": {
            "before": replace(FINE.before, granted_micro=100 + by),
            "after": replace(FINE.after, granted_micro=100 + by),
        },
        "redis_charged": {
            "before": replace(FINE.before, charged_micro=35 + by),
            "after": replace(FINE.after, charged_micro=35 + by),
        },
    }
    change = corrupt.get(ledger) or {ledger: getattr(FINE, ledger) + by}
    assert [what for what, _, _ in found(replace(FINE, **change))] == expected


def test_what_redis_lacks_is_a_difference() -> None:
    nothing = replace(FINE, before=Balance(), after=Balance())
    assert found(nothing) == [("granted", 100, None), ("charged", 35, None)]
    new = replace(nothing, grants_micro=0, granted_micro=0, rows_micro=0, waiting=Waiting())
    assert found(new) == [("granted", 0, None)]  # the record itself is missing; nothing charged is nothing


def test_a_grant_that_arrives_meanwhile_is_none() -> None:
    late = replace(FINE, before=replace(FINE.before, granted_micro=60))
    assert differences(late) == []
    early = replace(FINE, after=replace(FINE.after, granted_micro=160))
    assert differences(early) == []


def test_without_all_events_only_too_little_in_redis_can_be_proved() -> None:
    unknown = replace(FINE, waiting=Waiting(5, None))
    assert differences(replace(unknown, rows_micro=0)) == []
    assert [what for what, _, _ in found(replace(unknown, rows_micro=31))] == ["charged"]


def test_events_cost_key_and_team_and_count_once_beside_their_rows() -> None:
    events = [event(1, 5, 7, TEAM.id), event(2, 3), event(3, 2, 4, TEAM.id)]
    stored = {events[0].id}
    both = waiting(events, stored, stored | {events[1].id}, whole=True)
    assert both == {KEY: Waiting(2, 5), TEAM: Waiting(4, 4)}
    assert waiting(events, set(), set(), whole=False) == {KEY: Waiting(10, None), TEAM: Waiting(11, None)}


@given(st.data())
def test_calls_that_settle_and_rows_that_are_stored_meanwhile_are_no_difference(data: st.DataObject) -> None:
    """Calls settle in order; a worker stores them in any order. One looks in the order of `Reconciler`."""
    costs = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    moment = st.integers(0, 20)
    settled = sorted(data.draw(st.lists(moment, min_size=len(costs), max_size=len(costs))))
    stored = [at + data.draw(st.integers(0, 10)) for at in settled]
    looks = sorted(data.draw(st.lists(moment, min_size=6, max_size=6)))
    before, read, rows_first, summed, rows_second, after = looks
    calls = list(zip((event(number, cost) for number, cost in enumerate(costs)), settled, stored, strict=True))
    in_stream = [one for one, at, row in calls if at <= read < row + data.draw(st.integers(0, 3))]  # acked later
    entry = Entry(
        owner=KEY,
        grants_micro=0,
        granted_micro=0,
        rows_micro=sum(one.credits_micro for one, _, row in calls if row <= summed),
        waiting=waiting(
            in_stream,
            {one.id for one, _, row in calls if row <= rows_first},
            {one.id for one, _, row in calls if row <= rows_second},
            whole=True,
        ).get(KEY, Waiting()),
        before=Balance(granted_micro=0, charged_micro=sum(one.credits_micro for one, at, _ in calls if at <= before)),
        after=Balance(granted_micro=0, charged_micro=sum(one.credits_micro for one, at, _ in calls if at <= after)),
    )
    assert differences(entry) == []
