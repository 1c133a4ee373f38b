"""A node that has just failed a call looks full for a moment: longer each time where it says that it is busy."""

import pytest

from gateway.backends.rests import REST_MS, REST_MS_MAX, Rests
from gateway.core.routing import Backend
from gateway.errors import BackendBusy, BackendFault, BackendTimeout, BackendUnreachable, GatewayError

NODE = Backend(name="n1", url="http://n1", healthy=True, models={}, slots=4, busy=1)


class Bench:
    def __init__(self) -> None:
        self.now_ms = 0
        self.rests = Rests(lambda: self.now_ms)

    @property
    def resting(self) -> bool:
        seen = self.rests.seen(NODE)
        assert seen.busy in (NODE.busy, NODE.slots)
        return seen.busy == NODE.slots

    def lasts_ms(self) -> int:
        """How long it rests from now on."""
        began_ms = self.now_ms
        while self.resting:
            self.now_ms += REST_MS // 10
        return self.now_ms - began_ms


@pytest.mark.parametrize("error", [BackendUnreachable(), BackendBusy()])
def test_it_rests_and_is_the_same_again_afterwards(error: GatewayError) -> None:
    bench = Bench()
    assert not bench.rests.failed("n1", error)
    assert bench.lasts_ms() == REST_MS
    assert bench.rests.seen(NODE) is NODE


@pytest.mark.parametrize("error", [BackendFault(), BackendTimeout()])
def test_what_breakers_count_for_a_model_is_no_reason(error: GatewayError) -> None:
    bench = Bench()
    assert not bench.rests.failed("n1", error)
    assert not bench.resting


def test_one_that_is_busy_again_and_again_rests_ever_longer_up_to_a_bound() -> None:
    bench, lengths = Bench(), []
    for _ in range(9):
        bench.rests.failed("n1", BackendBusy())
        lengths.append(bench.lasts_ms())
    assert lengths[:4] == [REST_MS, 2 * REST_MS, 4 * REST_MS, 8 * REST_MS]
    assert lengths[-2:] == [REST_MS_MAX, REST_MS_MAX]
    bench.rests.served("n1")
    bench.rests.failed("n1", BackendBusy())
    assert bench.lasts_ms() == REST_MS


def test_one_that_cannot_be_reached_is_tried_soon_and_a_second_failure_is_told_from_a_first() -> None:
    bench = Bench()
    assert not bench.rests.failed("n1", BackendUnreachable())
    assert not bench.rests.failed("n1", BackendUnreachable()), "they were under way together"
    assert bench.lasts_ms() == REST_MS
    assert bench.rests.failed("n1", BackendUnreachable())
    assert bench.lasts_ms() == REST_MS
    bench.rests.served("n1")
    assert not bench.rests.failed("n1", BackendUnreachable())


def test_an_answer_that_was_under_way_when_it_failed_proves_nothing() -> None:
    bench = Bench()
    bench.rests.failed("n1", BackendUnreachable())
    bench.rests.served("n1")
    assert bench.resting


def test_it_is_of_no_concern_to_other_nodes() -> None:
    bench = Bench()
    bench.rests.failed("n2", BackendUnreachable())
    assert not bench.resting
