"""What rounds say together."""

from collections import Counter
from typing import Any

import pytest

from tests.bench.sample import FOREIGN_SHARE_MAX, Sample, figures, percentile


def sample(cpu_us: float, **changes: Any) -> Sample:
    """A round of 10 requests in 2 seconds."""
    fields = {"seconds": 2.0, "units": 10, "requests": 10, "redis_us": 0.0, "foreign_share": 0.0} | changes
    return Sample(cpu_us=cpu_us, **fields)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5], 50, 5), ([1, 2, 3, 4], 50, 2), ([4, 3, 2, 1], 75, 3), (range(1, 101), 99, 99), (range(1, 102), 99, 100)],
)
def test_a_percentile_is_one_of_the_values(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_first_round_is_not_counted_and_the_rest_by_their_median_and_least() -> None:
    found = figures([sample(9_000), sample(100), sample(300), sample(170)])
    assert (found.rounds, found.dropped, found.noisy) == (3, 0, False)
    assert (found.cpu_us, found.cpu_us_min, found.per_s) == (17.0, 10.0, 5.0)
    assert found.requests == 40


def test_one_round_alone_is_counted() -> None:
    assert figures([sample(100)]).cpu_us == 10.0


def test_rounds_in_which_others_used_the_cores_are_dropped() -> None:
    noisy = FOREIGN_SHARE_MAX + 0.01
    found = figures([sample(0), sample(100), sample(900, foreign_share=noisy), sample(100)])
    assert (found.rounds, found.dropped, found.noisy, found.cpu_us) == (2, 1, False, 10.0)


def test_where_hardly_any_round_was_quiet_all_are_counted_and_it_is_said() -> None:
    noisy = FOREIGN_SHARE_MAX + 0.01
    found = figures([sample(0), sample(100), *[sample(300, foreign_share=noisy)] * 2])
    assert (found.rounds, found.dropped, found.noisy, found.cpu_us) == (3, 0, True, 30.0)


def test_errors_of_all_rounds_count_also_of_those_that_are_not_counted() -> None:
    found = figures([sample(1, errors=Counter({"cut": 1})), sample(1), sample(1, errors=Counter({"503": 2}))])
    assert found.errors == {"cut": 1, "503": 2}


def test_times_are_put_together_or_their_medians_taken() -> None:
    rounds = [sample(1, latencies_us={50: p50, 99: 9 * p50}, first_us=[p50]) for p50 in (1.0, 2.0, 3.0, 40.0)]
    found = figures(rounds)
    assert (found.p50_us, found.p99_us) == (3.0, 27.0)
    assert (found.first_p50_us, found.first_p99_us, found.chunk_p50_us) == (3.0, 40.0, None)


def test_a_round_without_a_request_does_not_divide_by_nothing() -> None:
    assert figures([sample(100, units=0, requests=0)]).per_s == 0
