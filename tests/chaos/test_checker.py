"""A checker that cannot fail proves nothing: each ledger is corrupted in every way, and each time it has to say so."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.chaos.checker import check
from tests.chaos.history import AT_S, LATE, TARIFF, agreed, arrivals, found, history, row_of, work_of
from tests.chaos.ledgers import Ledgers, Row, Sums, Work


def rules(ledgers: Ledgers) -> set[str]:
    return {finding.rule for finding in check(ledgers)}


def with_row(tag: str, **changes: object) -> Callable[[Ledgers], Ledgers]:
    """One row corrupted, and the sums with it."""

    def corrupt(ledgers: Ledgers) -> Ledgers:
        rows = [replace(row, **changes) if row.mark == f"mark-{tag}" else row for row in ledgers.rows]
        assert rows != list(ledgers.rows)
        return agreed(replace(ledgers, rows=rows))

    return corrupt


def with_call(tag: str, **changes: object) -> Callable[[Ledgers], Ledgers]:
    def corrupt(ledgers: Ledgers) -> Ledgers:
        return replace(ledgers, calls=[replace(one, **changes) if one.tag == tag else one for one in ledgers.calls])

    return corrupt


def with_works(tag: str, *works: Work, **changes: object) -> Callable[[Ledgers], Ledgers]:
    """The works of one call changed, and others added."""

    def corrupt(ledgers: Ledgers) -> Ledgers:
        kept = [replace(work, **changes) if work.tag == tag else work for work in ledgers.works]
        return replace(ledgers, works=[*kept, *works])

    return corrupt


def without_row(tag: str) -> Callable[[Ledgers], Ledgers]:
    return lambda ledgers: agreed(replace(ledgers, rows=[row for row in ledgers.rows if row.mark != f"mark-{tag}"]))


def with_more_rows(*more: Row) -> Callable[[Ledgers], Ledgers]:
    return lambda ledgers: agreed(replace(ledgers, rows=[*ledgers.rows, *more]))


def without_faults(kind: str) -> Callable[[Ledgers], Ledgers]:
    return lambda ledgers: replace(ledgers, faults=[one for one in ledgers.faults if one.kind != kind])


def again(tag: str, **changes: object) -> Row:
    return replace(next(row for row in history().rows if row.mark == f"mark-{tag}"), **changes)


def test_a_run_that_adds_up_has_no_findings() -> None:
    assert check(history()) == []


@pytest.mark.parametrize("tag", [row.mark.removeprefix("mark-") for row in history().rows if row.mark != "mark-silent"])
def test_every_row_that_is_lost_is_missed(tag: str) -> None:
    assert "lost" in rules(without_row(tag)(history()))


def test_the_row_of_a_silent_call_is_missed_because_a_node_worked_for_it() -> None:
    lost = without_row("silent")(history())
    assert rules(lost) == {"lost"}
    assert rules(replace(lost, works=[work for work in lost.works if work.tag != "silent"])) == set()


@pytest.mark.parametrize("row", history().rows, ids=lambda row: row.mark)
def test_every_row_that_is_there_twice_is_seen(row: Row) -> None:
    assert "doubled" in rules(with_more_rows(row)(history()))
    assert "doubled" in rules(with_more_rows(replace(row, id="another"))(history()))


@pytest.mark.parametrize("tag", ["good", "mute", "whole", "failed", "midway"])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("by", [1, -1])
def test_where_figures_are_exact_one_token_is_seen(tag: str, field: str, by: int) -> None:
    row = again(tag)
    changed = replace(row, **{field: max(0, getattr(row, field) + by)})
    if changed != row:
        cost = TARIFF.cost(changed.prompt_tokens, changed.completion_tokens)
        fair = {"credits_micro": cost if row.credits_micro else 0, "team_credits_micro": cost if row.team_id else 0}
        assert rules(with_row(tag, **{field: getattr(changed, field)}, **fair)(history())) & {"exact", "failed"}


@pytest.mark.parametrize("tag", ["mute", "whole", "left", "broken", "late"])
@pytest.mark.parametrize("field", ["credits_micro", "team_credits_micro"])
def test_credits_are_recomputed(tag: str, field: str) -> None:
    assert "credits" in rules(with_row(tag, **{field: getattr(again(tag), field) + 1})(history()))


CORRUPTIONS: dict[str, tuple[Callable[[Ledgers], Ledgers], set[str]]] = {
    "a row of nobody": (with_more_rows(again("good", mark="mark-stranger", id="x")), {"nobody"}),
    "a row for a refusal": (with_more_rows(row_of(found("refused"), "ok", 1, 1)), {"refused"}),
    "a row for who reached nobody": (with_more_rows(row_of(found("nowhere"), "replica_lost", 1, 0)), {"refused"}),
    "two rows for who may have one": (
        with_more_rows(*[row_of(found("early"), "client_gone", 0, 0, id=name) for name in "ab"]),
        {"doubled"},
    ),
    "a status that was not told": (with_row("failed", status="stream_broken"), {"status"}),
    "a failure instead of a good end": (
        with_row("good", status="stream_broken", prompt_tokens=0, completion_tokens=0),
        {"status"},
    ),
    "a good end instead of a failure": (with_row("failed", status="ok", http_status=200), {"status", "exact"}),
    "a failure that is charged": (with_row("midway", completion_tokens=3), {"failed"}),
    "a failure where nothing failed": (
        with_row(
            "left", status="stream_broken", prompt_tokens=0, completion_tokens=0, credits_micro=0, estimated=False
        ),
        {"status"},
    ),
    "left, and charged less than came": (with_row("left", completion_tokens=4), {"under"}),
    "left, and charged more than was sent": (with_row("left", completion_tokens=9), {"over"}),
    "left, and a prompt beyond all estimates": (with_row("left", prompt_tokens=41), {"over"}),
    "left, and exact": (with_row("left", estimated=False), {"estimated"}),
    "left, who had not": (with_row("good", status="client_gone", estimated=True), {"status"}),
    "reaped, and charged less than was reported": (with_row("broken", completion_tokens=131), {"under"}),
    "reaped, and charged less than in time": (with_row("slow", completion_tokens=23), {"under"}),
    "reaped, and charged more than came": (
        lambda ledgers: with_works("broken", tokens_sent=400)(with_row("broken", completion_tokens=265)(ledgers)),
        {"over"},
    ),
    "reaped, and charged more than was sent": (with_row("broken", completion_tokens=202), {"over"}),
    "reaped, and a prompt beyond all estimates": (with_row("silent", prompt_tokens=41), {"over"}),
    "reaped, and exact": (with_row("silent", estimated=False), {"estimated"}),
    "reaped, and nobody was killed": (with_row("mute", status="replica_lost", estimated=True), {"status"}),
    "exact, and estimated": (with_row("good", estimated=True), {"exact"}),
    "another month": (with_row("good", month="203106"), {"month"}),
    "the month of the end": (with_row("whole", month="203106"), {"month"}),
    "another time": (with_row("good", created_s=AT_S + 6), {"time"}),
    "an earlier time": (with_row("good", created_s=AT_S - 1), {"time"}),
    "another key": (with_row("good", key_id="metered"), {"described"}),
    "another endpoint": (with_row("good", endpoint="/api/chat"), {"described"}),
    "not streamed": (with_row("good", streamed=False), {"described"}),
    "another end user": (with_row("good", end_user="mute"), {"described"}),
    "another id": (with_row("good", id="id-2"), {"described"}),
    "no team": (with_row("whole", team_id="", team_credits_micro=0), {"credits"}),
    "another team": (with_row("good", team_id="team"), {"credits"}),
    "a client that got a token more": (with_call("good", arrivals=arrivals(10, 0), told=None), {"exact"}),
    "a client that was told another figure": (with_call("good", told=(20, 10)), {"exact"}),
    "a client that broke off without cause": (with_call("good", end="broken"), {"broken"}),
    "a client that got an end": (with_call("left", end="finished"), {"status"}),
    "a client that got an error": (with_call("good", end="failed", code="stream_broken"), {"status"}),
    "a client with the name of another": (with_call("early", mark="mark-good"), {"names"}),
    "a node that sent more": (with_works("good", tokens_sent=10), {"exact"}),
    "a node that had another prompt": (with_works("mute", prompt_tokens=21), {"exact"}),
    "a node that did not finish": (with_works("good", completed=False), {"exact"}),
    "a node that was asked again and again": (
        with_works("good", work_of(found("good"), 20, 0), work_of(found("good"), 20, 0)),
        {"work"},
    ),
    "a node that worked for a refusal": (with_works("", work_of(found("refused"), 20, 0)), {"lost"}),
    "a node that worked for who reached nobody": (with_works("", work_of(found("nowhere"), 20, 0)), {"work"}),
    "a node that worked for a stranger": (with_works("", Work(node="node-0", tag="stranger")), {"work"}),
    "a node that worked for nobody": (with_works("", Work(node="node-0", tag="", tokens_sent=2)), {"work"}),
    "no kill of the replica": (without_faults("gateway"), {"broken", "status"}),
    "no outage of Redis": (without_faults("redis"), {"status"}),
    "a sum without a row": (lambda one: replace(one, sums=[*one.sums, ("daily", "x", Sums(1))]), {"sums"}),
    "a row without a sum": (lambda one: replace(one, sums=one.sums[1:]), {"sums"}),
    "Redis counted a token more": (lambda one: replace(one, spent=[("plain", one.spent[0][1] + 1)]), {"spent"}),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_every_corruption_is_found(what: str) -> None:
    corrupt, expected = CORRUPTIONS[what]
    assert expected <= rules(corrupt(history()))


@pytest.mark.parametrize("part", Sums.__struct_fields__)
def test_every_part_of_a_sum_counts(part: str) -> None:
    ledgers = history()
    (where, key, sums), *others = ledgers.sums
    off = replace(sums, **{part: getattr(sums, part) + 1})
    assert rules(replace(ledgers, sums=[(where, key, off), *others])) == {"sums"}


def test_the_excuse_of_a_late_settlement_needs_both_faults() -> None:
    assert not {finding.about for finding in check(history())}
    for kind in ("redis", "gateway"):
        assert LATE in {finding.about for finding in check(without_faults(kind)(history()))}
