"""Reports on usage: every sum is the one that Python makes of the same rows."""

import itertools
import random
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.admin.usage import OWN_MODELS_MAX, UsageReports
from gateway.core.grouping import GROUPS, SUMS, Asked, columns
from gateway.core.usage import UsageEvent
from gateway.errors import BadRequest
from tests.integration.admin_objects import BY, Stores, opened, record, team
from tests.integration.usage_events import DETAIL, event
from workers.store import UsageStore

FIRST, LAST = datetime(2026, 9, 29, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
CALLS = 3_000
KEYS, TEAMS = ["key00001", "key00002", "gone000001"], ["", "team00001"]
MODELS, NODES, STATUSES = (
    ["llama3.2:latest", "qwen3:8b", ""],
    ["gpu-1", "gpu-2", ""],
    ["ok", "ok", "client_gone", "timeout"],
)
LABELS = {"key00001": "Büro 🦙", "key00002": "=HYPERLINK(1)", "team00001": "Entwicklung"}
TIMES = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}


def call(number: int) -> UsageEvent:
    """Any call of that time; some are the last or first millisecond of a day."""
    at_ms = random.randrange(ms(FIRST), ms(LAST))
    if number % 50 == 0:
        at_ms = at_ms // 86_400_000 * 86_400_000 - number % 100 // 50
    at_ms = max(at_ms, ms(FIRST))
    detail = replace(
        DETAIL,
        model=random.choice(MODELS),
        backend=random.choice(NODES),
        status=random.choice(STATUSES),
        response_time_ms=random.randrange(100_000),
        queue_ms=random.choice([0, random.randrange(9_000)]),
        load_ms=random.randrange(2_000),
        prompt_ms=random.randrange(500),
        eval_ms=random.randrange(50_000),
    )
    return event(
        number,
        key_id=random.choice(KEYS),
        team_id=random.choice(TEAMS),
        at_ms=at_ms,
        month=at(at_ms).strftime("%Y%m"),
        prompt_tokens=random.randrange(5_000),
        completion_tokens=random.randrange(900),
        credits_micro=random.randrange(3_000_000),
        team_credits_micro=random.randrange(3_000_000),
        estimated=random.random() < 0.1,
        detail=detail,
    )


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def named(one: UsageEvent, group: str) -> tuple[str, ...]:
    """What the group of a call is called."""
    if group in TIMES:
        return (at(one.at_ms).strftime(TIMES[group]),)
    if group in ("key", "team"):
        id_ = one.key_id if group == "key" else one.team_id
        return id_, LABELS.get(id_, "")
    return (str(getattr(one.detail, group)),)


def sums(calls: list[UsageEvent]) -> dict[str, float]:
    details = [one.detail for one in calls]
    prompt, completion = sum(one.prompt_tokens for one in calls), sum(one.completion_tokens for one in calls)
    return {
        "calls": len(calls),
        "failed_calls": sum(one.status != "ok" for one in details),
        "estimated_calls": sum(one.estimated for one in calls),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "credits": sum(one.credits_micro for one in calls) / 10**6,
        "team_credits": sum(one.team_credits_micro for one in calls) / 10**6,
        "avg_response_seconds": sum(one.response_time_ms for one in details) / len(calls) / 1000,
        "queue_seconds": sum(one.queue_ms for one in details) / 1000,
        "gpu_seconds": sum(one.load_ms + one.prompt_ms + one.eval_ms for one in details) / 1000,
    }


def expected(calls: Iterable[UsageEvent], group_by: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, float]]:
    groups: dict[tuple[str, ...], list[UsageEvent]] = {}
    for one in calls:
        groups.setdefault(tuple(name for group in group_by for name in named(one, group)), []).append(one)
    return {name: sums(of) for name, of in groups.items()}


def told(groups: list[dict[str, Any]], group_by: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, float]]:
    names = columns(group_by)[: -len(SUMS)]
    found = {tuple(shown(name, one[name]) for name in names): {name: one[name] for name in SUMS} for one in groups}
    assert len(found) == len(groups), "a group is there twice"
    return found


def shown(name: str, value: Any) -> str:
    return str(value.strftime(TIMES[name])) if name in ("hour", "day") else str(value)


def same(found: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, of in wanted.items():
        assert found[name] == pytest.approx(of, rel=1e-9, abs=1e-9), name


@pytest.fixture
async def stores(migrated_url: str) -> AsyncIterator[Stores]:
    async for one in opened(migrated_url):
        yield one


@pytest.fixture
async def calls(stores: Stores) -> list[UsageEvent]:
    """Random calls as rows, some of them given twice, with two keys and a team that are there."""
    await stores.keys.create(BY, record(1), None)
    await stores.keys.create(BY, record(2, label=LABELS["key00002"]), None)
    await stores.teams.create(BY, team(1), None)
    made = [call(number) for number in range(CALLS)]
    store = UsageStore(stores.postgres)
    async with stores.postgres.transaction() as connection:
        for month in ("2026-10-01", "2026-11-01"):  # September's are in the default partitions
            await connection.execute(f"SELECT make_usage_partition('{month}')")
    for start in range(0, CALLS, 500):
        await store.insert([*made[start : start + 500], *random.sample(made, 20)])
    return made


def asked(*group_by: str, since: datetime = FIRST, until: datetime = LAST, **filters: str) -> Asked:
    return Asked(since=since, until=until, group_by=group_by, **filters)


async def test_every_pair_of_groups_has_the_sums_of_its_rows(stores: Stores, calls: list[UsageEvent]) -> None:
    reports = UsageReports(stores.postgres)
    for group_by in [*itertools.combinations(GROUPS, 1), *itertools.permutations(GROUPS, 2), tuple(GROUPS)]:
        report = await reports.report(asked(*group_by), 10_000)
        assert not report.truncated
        assert all(tuple(one) == columns(group_by) for one in report.groups)
        same(told(report.groups, group_by), expected(calls, group_by))


async def test_spans_and_filters_leave_out_what_does_not_fit(stores: Stores, calls: list[UsageEvent]) -> None:
    reports = UsageReports(stores.postgres)
    hours = int((LAST - FIRST) / timedelta(hours=1))
    for number in range(60):
        step = 24 if number % 2 else 1
        begin, end = sorted(random.sample(range(0, hours + 1, step), 2))
        since, until = FIRST + timedelta(hours=begin), FIRST + timedelta(hours=end)
        among: dict[str, Any] = {
            "key_id": random.choice(KEYS),
            "team_id": random.choice(TEAMS),
            "model": random.choice(MODELS),
            "backend": random.choice(NODES),
            "status": random.choice(STATUSES),
        }
        filters = {name: among[name] for name in random.sample(sorted(among), random.randrange(4))}
        group_by = tuple(random.sample(sorted(GROUPS), 2))
        report = await reports.report(asked(*group_by, since=since, until=until, **filters), 10_000)
        fitting = [one for one in calls if since <= at(one.at_ms) < until and fits(one, filters)]
        same(told(report.groups, group_by), expected(fitting, group_by))


def fits(one: UsageEvent, filters: dict[str, str]) -> bool:
    return all((getattr(one, name, None) or getattr(one.detail, name, "")) == value for name, value in filters.items())


async def test_what_is_more_than_was_wanted_is_said_to_be(stores: Stores, calls: list[UsageEvent]) -> None:
    reports = UsageReports(stores.postgres)
    whole = await reports.report(asked("day", "model"), 10_000)
    order = [(one["day"], -one["total_tokens"]) for one in whole.groups]
    assert order == sorted(order)
    count = len(whole.groups)
    for limit in (1, 7, count - 1, count, count + 1):
        report = await reports.report(asked("day", "model"), limit)
        assert (report.groups, report.truncated) == (whole.groups[:limit], limit < count)
    top = (await reports.report(asked("key"), 1)).groups[0]
    assert top["total_tokens"] == max(of["total_tokens"] for of in expected(calls, ("key",)).values())


async def test_values_that_no_row_can_hold_find_nothing(stores: Stores, calls: list[UsageEvent]) -> None:
    reports = UsageReports(stores.postgres)
    for value in ("nobody", "a\0b", "' OR '1'='1", "%"):
        for name in ("key_id", "team_id", "model", "backend", "status"):
            assert (await reports.report(asked("day", **{name: value}), 10)).groups == []
    assert await reports.own("a\0b", "202610") == await reports.own("nobody", "202610")


async def test_hours_of_a_month_that_was_dropped_are_refused_and_its_days_are_not(
    stores: Stores, calls: list[UsageEvent]
) -> None:
    reports = UsageReports(stores.postgres)
    october = datetime(2026, 10, 1, tzinfo=UTC)
    async with stores.postgres.transaction() as connection:
        await connection.execute("DROP TABLE usage_hourly_202610")
    for one in (asked("hour"), asked("model", since=october + timedelta(hours=1))):
        with pytest.raises(BadRequest) as error:
            await reports.report(one, 10)
        assert "2026-10 " in str(error.value)
        assert error.value.param == "from"
    in_october = [one for one in calls if one.month == "202610"]
    report = await reports.report(asked("day", since=october, until=datetime(2026, 11, 1, tzinfo=UTC)), 10_000)
    same(told(report.groups, ("day",)), expected(in_october, ("day",)))
    for since, until in ((FIRST, october), (datetime(2026, 11, 1, tzinfo=UTC), LAST + timedelta(days=80))):
        report = await reports.report(asked("hour", since=since, until=until), 10_000)
        fitting = [one for one in calls if since <= at(one.at_ms) < until]
        same(told(report.groups, ("hour",)), expected(fitting, ("hour",)))


async def test_a_key_is_told_its_own_month_and_nothing_else(stores: Stores, calls: list[UsageEvent]) -> None:
    reports = UsageReports(stores.postgres)
    for key_id, month in itertools.product(KEYS, ("202609", "202610", "202611", "202612")):
        own = [one for one in calls if one.key_id == key_id and one.month == month]
        use = await reports.own(key_id, month)
        for group, rows in (("day", use.by_day), ("model", use.by_model)):
            found = {(shown(group, row[group]),): row for row in rows}
            wanted = expected(own, (group,))
            assert found.keys() == wanted.keys()
            for name, row in found.items():
                of = {sum_: float(value) for sum_, value in row.items() if sum_ != group}
                assert of == pytest.approx({sum_: wanted[name][sum_] for sum_ in of})
        assert [row["day"] for row in use.by_day] == sorted(row["day"] for row in use.by_day)


async def test_of_many_models_the_largest_are_told(stores: Stores) -> None:
    many = [
        event(number, detail=replace(DETAIL, model=f"m{number:04d}"), prompt_tokens=number)
        for number in range(OWN_MODELS_MAX + 5)
    ]
    random.shuffle(many)
    await UsageStore(stores.postgres).insert(many)
    use = await UsageReports(stores.postgres).own("abcDEF1234", "202611")
    assert [row["model"] for row in use.by_model] == [f"m{number:04d}" for number in range(OWN_MODELS_MAX + 4, 4, -1)]
    assert use.by_day[0]["calls"] == len(many)
