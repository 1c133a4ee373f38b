"""What a call's time went into, told from its bill."""

from typing import Any

from gateway.core import phases
from gateway.core.call import Bill, Course
from gateway.core.usage import Detail, Tried


def told(course: Course | None, *, tokens: int = 5, **detail: Any) -> list[tuple[str, int, int]]:
    bill = Bill(
        prompt_tokens=1,
        completion_tokens=tokens,
        paid=True,
        estimated=False,
        whole=True,
        detail=Detail(backend="a", **{"response_time_ms": 1_000, **detail}),
        course=course,
    )
    found = phases.of(bill)
    assert all(0 <= one.from_ms <= one.until_ms for one in found), "no phase ends before it begins"
    assert [one.from_ms for one in found] == sorted(one.from_ms for one in found)
    return [(one.name, one.from_ms, one.until_ms) for one in found]


def test_a_streamed_answer_begins_with_its_first_token() -> None:
    assert told(Course(310, 300), first_token_ms=500) == [
        ("queue", 10, 310),
        ("load and prompt", 310, 500),
        ("generation", 500, 1_000),
    ]


def test_of_a_whole_answer_the_nodes_own_figures_say_when_it_began() -> None:
    assert told(Course(10, 0), load_ms=100, prompt_ms=40)[1:] == [
        ("load and prompt", 10, 150),
        ("generation", 150, 1_000),
    ]
    assert told(Course(10, 0), load_ms=100_000)[2] == ("generation", 1_000, 1_000), "a node may say anything"


def test_what_generates_nothing_has_no_generation() -> None:
    assert told(Course(10, 4), tokens=0) == [("queue", 6, 10), ("load and prompt", 10, 1_000)]


def test_failed_attempts_come_before_the_one_that_counts() -> None:
    tries = (Tried("b", "backend_unreachable", 20, 100), Tried("c", "backend_timeout", 0, 200))
    assert told(Course(400, 50), attempts=tries, first_token_ms=600) == [
        ("queue", 50, 70),
        ("failed attempt", 70, 170),
        ("queue", 170, 170),
        ("failed attempt", 170, 370),
        ("queue", 370, 400),
        ("load and prompt", 400, 600),
        ("generation", 600, 1_000),
    ]


def test_a_call_that_no_backend_was_given_has_only_waited() -> None:
    assert told(None, tokens=0) == []
    assert told(None, tokens=0, queue_ms=990) == [("queue", 10, 1_000)]
    tries = (Tried("b", "backend_unreachable", 20, 100),)
    assert told(None, tokens=0, queue_ms=50, attempts=tries) == [
        ("queue", 850, 870),
        ("failed attempt", 870, 970),
        ("queue", 970, 1_000),
    ]


def test_figures_that_contradict_each_other_give_no_time_before_the_beginning() -> None:
    told(Course(5, 900), attempts=(Tried("b", "x", 2_000, 3_000),), first_token_ms=1)
