"""What workers decide without Redis or Postgres: batches, pauses, months, refusals."""

import asyncpg
import pytest

from gateway.admin.postgres import refusal
from sql import Migration, parse
from tests.unit.test_usage_event import FIELDS
from workers.batch import (
    PAGE_ROWS_MAX,
    ROWS_MIN,
    ROWS_MORE,
    BatchPolicy,
    BatchSize,
    Draft,
    Entry,
    sort_entries,
)
from workers.clock import month_of
from workers.loop import BACKOFF_S_MAX, backoff_s, kinds
from workers.migrate import MigrationRefused, check


@pytest.mark.parametrize(
    ("rows", "age_ms", "due"),
    [(0, 0, False), (0, 10**9, False), (1, 249, False), (1, 250, True), (999, 0, False), (1000, 0, True)],
)
def test_a_batch_is_due_when_full_or_old(rows: int, age_ms: int, due: bool) -> None:
    assert BatchPolicy(rows_max=1000, wait_ms_max=250).due(rows=rows, size=0, age_ms=age_ms) is due


@pytest.mark.parametrize(
    ("rows", "size", "full"),
    [(0, 0, False), (9, 99, False), (10, 0, True), (1, 100, True), (1, 10**9, True)],
)
def test_a_batch_is_full_by_rows_or_bytes(rows: int, size: int, full: bool) -> None:
    policy = BatchPolicy(rows_max=10, bytes_max=100)
    assert policy.full(rows=rows, size=size) is full
    assert policy.due(rows=rows, size=size, age_ms=0) is full


def test_a_batch_is_read_in_pages_until_it_is_full() -> None:
    draft = Draft(BatchPolicy(rows_max=PAGE_ROWS_MAX + 5, bytes_max=10**6))
    assert draft.room == PAGE_ROWS_MAX
    assert draft.add([Entry(b"1-0", {b"a": b"1"})] * PAGE_ROWS_MAX) and not draft.full
    assert draft.room == 5
    assert not draft.add([Entry(b"1-0", {})]) and not draft.full  # a gone body has no bytes
    draft.add([Entry(b"2-0", {b"a": b"1" * 10**6})])
    assert draft.full and len(draft.entries) == PAGE_ROWS_MAX + 2


@pytest.mark.parametrize("rows_max", [1, ROWS_MIN - 1, ROWS_MIN, 2_000])
def test_a_size_shrinks_fast_grows_slowly_and_stays_in_bounds(rows_max: int) -> None:
    size = BatchSize(BatchPolicy(rows_max=rows_max, bytes_max=7, wait_ms_max=8))
    seen = []
    for step in [size.grow, *[size.shrink] * 12, *[size.grow] * 40]:
        before = size.policy.rows_max
        step()
        seen.append(size.policy.rows_max)
        assert min(ROWS_MIN, rows_max) <= seen[-1] <= rows_max
        assert seen[-1] <= before + ROWS_MORE
    assert (seen[0], seen[12], seen[-1]) == (rows_max, min(ROWS_MIN, rows_max), rows_max)
    assert size.policy == BatchPolicy(rows_max=rows_max, bytes_max=7, wait_ms_max=8)


def test_entries_are_sorted_in_order_and_each_exactly_once() -> None:
    entries = [
        Entry(b"1-0", FIELDS),
        Entry(b"2-0", {}),
        Entry(b"3-0", FIELDS | {b"prompt": b"many"}),
        Entry(b"4-0", FIELDS),
        Entry(b"5-0", {b"strange": b"entry"}),
    ]
    good, bad = sort_entries(entries)
    assert [one.entry.id for one in good] == [b"1-0", b"4-0"]
    assert [(one.entry.id, one.reason) for one in bad] == [
        (b"2-0", "body is gone"),
        (b"3-0", "ValueError"),
        (b"5-0", "version is not 1"),
    ]


def test_nothing_is_sorted_into_nothing() -> None:
    assert sort_entries([]) == ([], [])


def test_pauses_grow_and_are_bounded_whatever_happens() -> None:
    assert [backoff_s(failures, 1.0) for failures in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert backoff_s(10**6, 1.0) == BACKOFF_S_MAX
    assert backoff_s(10**6, 0.0) == BACKOFF_S_MAX / 2


def test_an_error_is_logged_by_kind_and_never_by_text() -> None:
    try:
        try:
            raise ValueError("secret")
        except ValueError as error:
            raise KeyError("secret too") from error
    except KeyError as error:
        assert kinds(error) == "KeyError from ValueError"


@pytest.mark.parametrize(
    ("ms", "month"),
    [(1_793_491_199_999, "202610"), (1_793_491_200_000, "202611"), (4_102_444_799_999, "209912")],
)
def test_months_are_utc(ms: int, month: str) -> None:
    assert month_of(ms) == month


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (asyncpg.CharacterNotInRepertoireError("x"), True),
        (asyncpg.NumericValueOutOfRangeError("x"), True),
        (asyncpg.CheckViolationError("x"), True),
        (asyncpg.NotNullViolationError("x"), True),
        (asyncpg.ProgramLimitExceededError("x"), True),
        (asyncpg.DataError("x"), True),
        (asyncpg.DeadlockDetectedError("x"), False),
        (asyncpg.SerializationError("x"), False),
        (asyncpg.QueryCanceledError("x"), False),
        (asyncpg.LockNotAvailableError("x"), False),
        (asyncpg.DiskFullError("x"), False),
        (asyncpg.UndefinedTableError("x"), False),
        (asyncpg.TooManyConnectionsError("x"), False),
        (asyncpg.ConnectionDoesNotExistError("x"), False),
        (asyncpg.InterfaceError("x"), False),
        (asyncpg.ClientConfigurationError("x"), False),
        (ConnectionRefusedError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_the_values_own_fault_is_a_refusal(error: Exception, refused: bool) -> None:
    assert bool(refusal(error)) is refused
    assert refusal(error) != "x"


FIRST, SECOND = Migration("0001_a", "a"), Migration("0002_b", "b")


def test_a_database_may_be_empty_behind_or_level() -> None:
    for applied in ({}, {"0001_a": FIRST.checksum}, {"0001_a": FIRST.checksum, "0002_b": SECOND.checksum}):
        check([FIRST, SECOND], applied)


@pytest.mark.parametrize(
    ("applied", "problem"),
    [
        ({"0001_a": FIRST.checksum, "0003_c": "?"}, "does not know: 0003_c"),
        ({"0001_a": "other"}, "changed after they had been applied: 0001_a"),
        ({"0002_b": SECOND.checksum}, "not 0001_a"),
    ],
)
def test_a_database_that_does_not_fit_is_refused(applied: dict[str, str], problem: str) -> None:
    with pytest.raises(MigrationRefused, match=problem):
        check([FIRST, SECOND], applied)


def test_statements_are_found_by_name() -> None:
    assert parse("-- head\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT 2;\n") == {
        "one": "-- why\nSELECT 1;",
        "two": "SELECT 2;",
    }
    with pytest.raises(ValueError, match="named twice: one"):
        parse("-- name: one\nSELECT 1;\n-- name: one\nSELECT 1;")
