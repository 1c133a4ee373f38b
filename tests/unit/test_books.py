"""What Redis and Postgres say of one owner: what is corrupt is always found, calls that settle meanwhile never are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import charges
from gateway.core.books import Balance, Between, Difference, Entry, Waiting, differences, waiting
from gateway.core.charges import Charge, Owner, by_owner

KEY, TEAM = Owner("key", "k1"), Owner("team", "t1")
MONTH, OTHER_MONTH = "202701", "202612"
REDIS = Balance(granted_micro=100, charged_micro=35, tokens=12)
FINE = Entry(
    owner=KEY,
    grants_micro=100,
    granted_micro=100,
    charged_micro=30,
    tokens=10,
    waiting=Waiting(Between(5, 5), Between(2, 2)),
    before=REDIS,
    after=REDIS,
)


def charge(number: int, micro: int, team_micro: int = 0, team: str = "", tokens: int = 2, month: str = MONTH) -> Charge:
    return Charge(
        id=f"00000000-0000-7000-8000-{number:012}",
        key_id=KEY.id,
        at_ms=1_800_000_000_000,
        month=month,
        tokens=tokens,
        credits_micro=micro,
        team_id=team,
        team_credits_micro=team_micro,
    )


def found(entry: Entry) -> list[tuple[str, int, int | None]]:
    return [(one.what, one.expected, one.found) for one in differences(entry)]


def test_what_agrees_has_no_differences() -> None:
    assert differences(FINE) == []
    assert differences(replace(FINE, past=True)) == []


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        ("grants_micro", ["grants"]),
        ("granted_micro", ["grants", "granted"]),
        ("charged_micro", ["charged"]),
        ("tokens", ["tokens"]),
        ("waiting_micro", ["charged"]),
        ("waiting_tokens", ["tokens"]),
        ("redis_granted_micro", ["granted"]),
        ("redis_charged_micro", ["charged"]),
        ("redis_tokens", ["tokens"]),
    ],
)
@pytest.mark.parametrize("past", [False, True])
def test_one_more_or_less_in_any_ledger_is_found(ledger: str, by: int, expected: list[str], past: bool) -> None:
    changes: dict[str, Any]
    if ledger.startswith("waiting_"):
        field = ledger.removeprefix("waiting_")
        least = getattr(FINE.waiting, field).least + by
        changes = {"waiting": replace(FINE.waiting, **{field: Between(least, least)})}
    elif ledger.startswith("redis_"):
        field = ledger.removeprefix("redis_")
        other = replace(REDIS, **{field: getattr(REDIS, field) + by})
        changes = {"before": other, "after": other}
    else:
        changes = {ledger: getattr(FINE, ledger) + by}
    assert [what for what, _, _ in found(replace(FINE, past=past, **changes))] == expected


def test_what_redis_lacks_is_a_difference() -> None:
    nothing = replace(FINE, before=Balance(), after=Balance())
    assert found(nothing) == [("granted", 100, None), ("charged", 35, None), ("tokens", 12, None)]
    new = replace(nothing, grants_micro=0, granted_micro=0, charged_micro=0, tokens=0, waiting=Waiting())
    assert found(new) == [("granted", 0, None)]  # the record itself is missing; nothing charged is nothing


def test_tokens_of_a_past_month_may_be_forgotten_but_not_wrong() -> None:
    forgotten = replace(FINE, past=True, before=replace(REDIS, tokens=None), after=replace(REDIS, tokens=None))
    assert differences(forgotten) == []
    assert found(replace(forgotten, past=False)) == [("tokens", 12, None)]
    wrong = replace(FINE, past=True, before=replace(REDIS, tokens=13), after=replace(REDIS, tokens=13))
    assert differences(wrong) == [Difference(owner=KEY, what="tokens", unit="tokens", expected=12, found=13)]


def test_a_grant_that_arrives_meanwhile_is_none() -> None:
    assert differences(replace(FINE, before=replace(REDIS, granted_micro=60))) == []
    assert differences(replace(FINE, after=replace(REDIS, granted_micro=160))) == []


def test_without_all_events_only_too_little_in_redis_can_be_proved() -> None:
    unknown = replace(FINE, waiting=Waiting(Between(5, None), Between(2, None)))
    assert differences(replace(unknown, charged_micro=0, tokens=0)) == []
    assert [what for what, _, _ in found(replace(unknown, charged_micro=31, tokens=11))] == ["charged", "tokens"]


def test_events_cost_key_and_team_and_count_once_beside_their_rows() -> None:
    some = [charge(1, 5, 7, TEAM.id), charge(2, 3, tokens=4), charge(3, 2, 4, TEAM.id), charge(4, 1, month=OTHER_MONTH)]
    theirs = by_owner(some)
    assert {owner: len(of) for owner, of in theirs.items()} == {KEY: 4, TEAM: 2}
    stored = {some[0].id}
    rows: dict[str, Any] = {"rows_before": stored, "rows_after": stored | {some[1].id}}
    assert waiting(KEY, theirs[KEY], MONTH, **rows, whole=True) == Waiting(Between(3, 6), Between(2, 6))
    assert waiting(TEAM, theirs[TEAM], MONTH, **rows, whole=True) == Waiting(Between(4, 4), Between(2, 2))
    none: dict[str, Any] = {"rows_before": set(), "rows_after": set()}
    assert waiting(KEY, theirs[KEY], MONTH, **none, whole=False) == Waiting(Between(11, None), Between(8, None))
    assert waiting(KEY, theirs[KEY], OTHER_MONTH, **none, whole=True).tokens == Between(2, 2)


ENTRY = {
    b"v": b"9",
    b"id": b"00000000-0000-7000-8000-000000000001",
    b"key": b"k1",
    b"team": b"t1",
    b"at": b"1800000000000",
    b"month": b"202701",
    b"prompt": b"3",
    b"completion": b"4",
    b"credits": b"5",
    b"team_credits": b"6",
    b"detail": b"no JSON at all",
    b"dead_reason": b"version is not 1",
}


def test_a_charge_is_read_from_an_event_that_no_row_can_be_made_of() -> None:
    one = charges.read(ENTRY)
    assert one == charge(1, 5, 6, TEAM.id, tokens=7)
    assert one is not None and one.owners() == [KEY, TEAM]
    alone = charges.read({name: value for name, value in ENTRY.items() if not name.startswith(b"team")})
    assert alone is not None and alone.owners() == [KEY]


@pytest.mark.parametrize("name", ["id", "key", "at", "month", "prompt", "completion", "credits"])
@pytest.mark.parametrize("value", [None, "ü", "-1"])
def test_what_does_not_tell_is_no_charge(name: str, value: str | None) -> None:
    without = {field: text for field, text in ENTRY.items() if field != name.encode()}
    wrong = without if value is None else without | {name.encode(): value.encode()}
    assert (charges.read(wrong) is None) == (value != "-1" or name not in ("key", "at", "month"))


@given(st.data())
def test_calls_that_settle_and_rows_that_are_stored_meanwhile_are_no_difference(data: st.DataObject) -> None:
    """Calls settle in order; a worker stores them in any order. One looks in the order of `Reconciler`."""
    costs = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    moment = st.integers(0, 20)
    settled = sorted(data.draw(st.lists(moment, min_size=len(costs), max_size=len(costs))))
    stored = [at + data.draw(st.integers(0, 10)) for at in settled]
    looks = sorted(data.draw(st.lists(moment, min_size=6, max_size=6)))
    before, read, rows_first, summed, rows_second, after = looks
    months = [data.draw(st.sampled_from([MONTH, OTHER_MONTH])) for _ in costs]
    made = (
        charge(n, cost, tokens=2 * cost, month=month) for n, (cost, month) in enumerate(zip(costs, months, strict=True))
    )
    calls = list(zip(made, settled, stored, strict=True))
    in_stream = [one for one, at, row in calls if at <= read < row + data.draw(st.integers(0, 3))]  # acked later

    def redis(at: int) -> Balance:
        seen = [one for one, charged_at, _ in calls if charged_at <= at]
        tokens = sum(one.tokens for one in seen if one.month == MONTH)
        return Balance(granted_micro=0, charged_micro=sum(one.credits_micro for one in seen), tokens=tokens)

    rows = [one for one, _, row in calls if row <= summed]
    entry = Entry(
        owner=KEY,
        grants_micro=0,
        granted_micro=0,
        charged_micro=sum(one.credits_micro for one in rows),
        tokens=sum(one.tokens for one in rows if one.month == MONTH),
        waiting=waiting(
            KEY,
            in_stream,
            MONTH,
            rows_before={one.id for one, _, row in calls if row <= rows_first},
            rows_after={one.id for one, _, row in calls if row <= rows_second},
            whole=True,
        ),
        before=redis(before),
        after=redis(after),
    )
    assert differences(entry) == []
    if before == after:  # nothing moves: then not even one token may be wrong
        by = data.draw(st.sampled_from([-1, 1]))
        field = data.draw(st.sampled_from(["charged_micro", "tokens"]))
        wrong = {
            name: replace(getattr(entry, name), **{field: getattr(entry.after, field) + by})
            for name in ("before", "after")
        }
        assert [one.what for one in differences(replace(entry, **wrong))] == [field.removesuffix("_micro")]
