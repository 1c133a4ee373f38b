"""Targets beside what was reached, the books beside the rows, and how it is told."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.bench import report
from tests.bench.books import Books, Rows, disagreement
from tests.bench.finding import ERRORS, Finding
from tests.bench.gate import at_rest, no_errors
from tests.bench.overload import GOODPUT, REFUSALS
from tests.bench.run import Report
from tests.bench.sample import Sample, figures
from tests.bench.verdict import Verdict, verdicts

HISTORY = Path(report.__file__).with_name("results.md")
FIGURES = figures(
    [Sample(seconds=1, units=10, requests=10, cpu_us=1_000, redis_us=0, foreign_share=0, latencies_us={50: 900.0})]
)
"""100 us a request"""
RESULTS = {
    "json_c1": {
        "direct native": replace(FIGURES, p50_us=100.0),
        "nginx native": FIGURES,
        "gateway openai": replace(FIGURES, p50_us=600.0),
    },
    "json_c32": {"nginx native": FIGURES, "gateway openai": replace(FIGURES, cpu_us=600.0)},
}


def reached(name: str, results: object = RESULTS, findings: tuple[Finding, ...] = ()) -> Verdict:
    (found,) = [one for one in verdicts(results, list(findings)) if one.name.startswith(name)]  # type: ignore[arg-type]
    return found


def test_a_ratio_is_ours_over_theirs_of_one_run() -> None:
    found = reached("CPU per JSON request")
    assert (found.reached, found.best, found.good) == (6.0, 1.0, False)


def test_what_is_added_is_more_than_direct() -> None:
    found = reached("added p50 at c1")
    assert (found.reached, found.good) == (0.5, True)


def test_a_ratio_of_a_noisy_figure_is_marked_wherever_it_is_told() -> None:
    for noisy in ("nginx native", "gateway openai"):
        by_name = RESULTS["json_c32"]
        results = {"json_c32": by_name | {noisy: replace(by_name[noisy], noisy=True)}}
        assert reached("CPU per JSON request", results).noisy
        told = Report(at="2026-11-22 10:00 UTC", seed=1, results=results, verdicts=verdicts(results, []))
        assert "  6~  " in report.verdicts_table(told.verdicts)
        assert "| 6~ |" in report.history_line(told)
    assert not reached("CPU per JSON request").noisy
    assert "~" not in report.history_line(Report(at="2026", seed=1, verdicts=verdicts(RESULTS, [])))


def test_a_noisy_overload_is_marked() -> None:
    findings = Finding("a", "gateway", GOODPUT, 99.0), Finding("b", "gateway", GOODPUT, 94.0, noisy=True)
    found = reached("goodput", findings=findings)
    assert (found.reached, found.noisy) == (94.0, True)
    assert "94~" in report.findings_table(findings)


@pytest.mark.parametrize("failed", [{"errors": {"502": 2}}, {"per_s": 0.0}])
def test_who_did_not_do_what_was_asked_is_not_compared_with(failed: dict[str, object]) -> None:
    results = {"json_c32": RESULTS["json_c32"] | {"nginx native": replace(FIGURES, **failed)}}
    assert reached("CPU per JSON request", results).good is None


def test_what_was_not_measured_is_no_failure_and_no_success() -> None:
    found = reached("CPU per request, LiteLLM")
    assert (found.reached, found.good) == (None, None)


def test_of_several_overloads_the_worst_counts() -> None:
    findings = tuple(
        Finding(trial, "gateway", what, value)
        for trial, what, value in (("a", GOODPUT, 99.0), ("b", GOODPUT, 94.0), ("a", REFUSALS, 20.0))
    )
    assert reached("goodput", findings=findings) == Verdict("goodput at 10x overload, % of peak", 95.0, True, 94.0)
    assert reached("refusals' p99", findings=findings).good


@pytest.mark.parametrize(
    ("books", "rows", "words"),
    [
        (Books(10, 0), Rows(10, 10, 10), ""),
        (Books(10, 3), Rows(13, 12, 13), ""),
        (Books(10, 3), Rows(12, 12, 13), "12 rows of 13"),
        (Books(10, 3), Rows(9, 9, 9), "9 good rows of 10 answers"),
        (Books(10, 0), Rows(11, 11, 11), "11 good rows of 10 answers"),
    ],
)
def test_rows_are_the_admitted_calls_and_good_ones_what_clients_got(books: Books, rows: Rows, words: str) -> None:
    found = disagreement(books, rows)
    assert found.startswith(words)
    assert bool(found) == bool(words)


def test_an_error_of_ours_fails_the_gate_wherever_it_is_found() -> None:
    with_error = {"json_c1": {"gateway openai": replace(FIGURES, errors={"503": 2})}}
    assert no_errors(with_error, []).found == "json_c1 gateway openai: 2 503"
    assert not no_errors({}, [Finding("crowd", "gateway", ERRORS, 1)]).good
    assert no_errors(RESULTS, [Finding("crowd", "gateway", ERRORS, 0)]).good


def test_a_peers_errors_are_not_ours() -> None:
    assert no_errors({"json_c1": {"nginx native": replace(FIGURES, errors={"502": 2})}}, []).good
    assert no_errors({}, [Finding("crowd", "nginx", ERRORS, 1)]).good
    assert not no_errors({}, [Finding("redis", "redis", ERRORS, 1)]).good


def test_no_answer_at_all_is_an_error() -> None:
    silent = {"json_c1": {"gateway openai": replace(FIGURES, per_s=0.0)}}
    assert no_errors(silent, []).found == "json_c1 gateway openai: no answers"


def test_what_does_not_come_to_rest_fails_and_is_named() -> None:
    assert at_rest([]).good
    found = at_rest(["json_c1: calls ran on before nginx native", "drain: not done in time"])
    assert report.gate_line(found).startswith("FAILED  everything answers, and comes to rest: json_c1: calls ran on")


def test_the_history_has_a_column_for_each_target() -> None:
    (head,) = [line for line in HISTORY.read_text().splitlines() if line.startswith("| date |")]
    told = re.findall(r"\((<=|>=) ([\d.]+)\)", head)
    assert told == [(">=" if one.at_least else "<=", f"{one.target:g}") for one in verdicts({}, [])]


def test_columns_are_aligned_and_a_line_of_the_history_has_a_cell_for_each_target() -> None:
    told = Report(at="2026-11-22 10:00 UTC", seed=1, results=RESULTS, verdicts=verdicts(RESULTS, []))
    table = report.figures_table(RESULTS).splitlines()
    assert len(table) == 1 + 5
    assert len({len(line) for line in table}) == 1
    cells = report.history_line(told).strip("| ").split("|")
    assert len(cells) == 3 + len(told.verdicts)
    assert "SEED=1" in report.text(told)
