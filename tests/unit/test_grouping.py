"""What a report is asked for: spans of UTC hours, groups, and how long a span may be."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.core import grouping
from gateway.core.grouping import Asked
from gateway.errors import BadRequest

NOW = datetime(2026, 11, 21, 18, 31, 10, tzinfo=UTC)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc]


def asked(since: datetime, until: datetime, *group_by: str) -> Asked:
    return Asked(since=since, until=until, group_by=group_by or ("day",))


def test_without_a_span_it_is_this_month_in_utc() -> None:
    assert grouping.span(NOW, None, None) == (at(2026, 11, 1), at(2026, 12, 1))
    assert grouping.span(at(2026, 12, 31, 23), None, None) == (at(2026, 12, 1), at(2027, 1, 1))
    assert grouping.span(at(2027, 1, 31), None, None) == (at(2027, 1, 1), at(2027, 2, 1))
    ahead = datetime(2027, 1, 1, 5, tzinfo=timezone(timedelta(hours=14)))  # in UTC it is still December
    assert grouping.span(ahead, None, None)[0] == at(2026, 12, 1)
    assert grouping.span(NOW, "2025-02-03", None) == (at(2025, 2, 3), at(2026, 12, 1))
    assert grouping.span(NOW, None, "2026-11-02") == (at(2026, 11, 1), at(2026, 11, 2))


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-11-02", 0),
        ("2026-11-02T07", 7),
        ("2026-11-02T07Z", 7),
        ("2026-11-02T23:00", 23),
        ("2026-11-02T23:00:00Z", 23),
        ("2026-11-02T00:00+00:00", 0),
    ],
)
def test_days_and_whole_hours_are_read(text: str, hour: int) -> None:
    assert grouping.span(NOW, text, None)[0] == at(2026, 11, 2, hour)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-11", "2026-02-30", "2026-11-02T24", "2026-11-02T07:30", "2026-11-02T07:00:01Z",
     "1969-12-31", "2026-11-02T07:00+01:00", "20261102", "2026-W45-1", "2026-11-02 07",
     "1 OR 1=1", "٢٠٢٦-11-02", "2026-11-02\n"],
)  # fmt: skip
def test_what_is_no_whole_hour_in_utc_is_refused_by_its_name(text: str) -> None:
    for param, span in (("from", (text, None)), ("to", (None, text))):
        with pytest.raises(BadRequest) as error:
            grouping.span(NOW, *span)
        assert error.value.param == param


def test_a_span_ends_after_it_begins_and_is_bounded() -> None:
    for until in ("2026-11-02", "2026-11-01T23:00Z"):
        with pytest.raises(BadRequest):
            grouping.span(NOW, "2026-11-02", until)
    longest = timedelta(days=grouping.SPAN_DAYS_MAX)
    grouping.checked(asked(at(2020, 1, 1), at(2020, 1, 1) + longest))
    for one in (
        asked(at(2020, 1, 1), at(2020, 1, 2) + longest),
        asked(at(2026, 1, 1), at(2026, 4, 4), "hour"),
        asked(at(2026, 1, 1, 1), at(2026, 4, 4)),
    ):
        with pytest.raises(BadRequest):
            grouping.checked(one)


def test_hours_are_needed_for_hours_and_for_parts_of_days() -> None:
    assert not asked(at(2026, 1, 1), at(2026, 1, 2), "day", "key").by_hours
    assert asked(at(2026, 1, 1), at(2026, 1, 2), "model", "hour").by_hours
    assert asked(at(2026, 1, 1, 1), at(2026, 1, 2)).by_hours
    assert asked(at(2026, 1, 1), at(2026, 1, 2, 23)).by_hours


def test_groups_are_named_once_and_in_the_order_that_was_asked_for() -> None:
    assert grouping.grouped("model,day,model") == ("model", "day")
    assert grouping.columns(("key", "day"))[:4] == ("key_id", "key_label", "day", "calls")
    for text in ("", "day,", "api_key_id", "day; DROP TABLE usage_logs", "DAY"):
        with pytest.raises(BadRequest) as error:
            grouping.grouped(text)
        assert error.value.param == "group_by"
