"""What is made of two looks at the machine; of many at a target's memory; of one replica and two."""

import pytest

from tests.bench import meter
from tests.bench.finding import ERRORS
from tests.bench.meter import Usage
from tests.bench.processor import Cores, Machine
from tests.bench.scaling import Rate, compared
from tests.bench.stalled import Look, peak

SECOND_NS = 10**9


def usages(*, cores: int, busy_s: float, mine_s: float, target_s: float = 0, idle_s: float = 0) -> tuple[Usage, Usage]:
    """Two seconds apart."""

    def usage(times: int) -> Usage:
        busy, idle = round(times * busy_s * SECOND_NS), round(times * idle_s * SECOND_NS)
        return Usage(
            at_s=100.0 + 2 * times,
            target_ns=round(times * target_s * SECOND_NS),
            redis_ns=0,
            mine_ns=round(times * mine_s * SECOND_NS),
            machine=Machine(cores, busy, idle, 0),
        )

    return usage(0), usage(1)


@pytest.mark.parametrize(("cores", "share"), [(1, 0.5), (2, 0.25)])
def test_what_others_used_is_a_share_of_as_many_cores_as_there_are(cores: int, share: float) -> None:
    found = meter.sample(*usages(cores=cores, busy_s=1.5, mine_s=0.5), units=1, requests=1)
    assert found.foreign_share == pytest.approx(share)


def test_one_core_is_counted_once() -> None:
    assert (len(Cores(3, 3).used), len(Cores(0, 1).used)) == (1, 2)


def test_shares_of_a_core_and_of_all_that_there_are() -> None:
    before, after = usages(cores=2, busy_s=3, mine_s=3, target_s=1.5, idle_s=1)
    assert meter.core_share(before, after) == pytest.approx(0.75)
    assert meter.full_share(before, after) == pytest.approx(0.75)


def test_memory_counts_while_anybody_is_there() -> None:
    assert peak([Look(10, 2), Look(40, 3), Look(30, 5), Look(90, 0)]) == Look(40, 3)
    assert peak([Look(90, 0)]) == Look(0, 0)


@pytest.mark.parametrize(("full", "replica", "named"), [(0.97, 0.6, True), (0.6, 0.6, False), (0.97, 0.97, False)])
def test_where_the_machine_is_the_limit_and_not_the_replicas_the_figure_says_so(
    full: float, replica: float, named: bool
) -> None:
    one = Rate(per_s=2_000, core_share=0.9, redis_share=0.4, full_share=0.7)
    two = Rate(per_s=2_600, core_share=replica, redis_share=0.5, full_share=full)
    found = {finding.what: finding.value for finding in compared(one, two)}
    ((words, times),) = [(what, value) for what, value in found.items() if what.startswith("times as many")]
    assert times == pytest.approx(1.3)
    assert ("cores of the machine are full" in words) == named
    assert found[ERRORS] == 0


def test_replicas_that_serve_nothing_are_an_error_and_no_ratio() -> None:
    nothing = Rate(per_s=0, core_share=0, redis_share=0, full_share=0)
    assert {one.what: one.value for one in compared(nothing, nothing)}[ERRORS] == 1
