"""What each ending of a call is billed, and that every bill becomes a row."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core import usage
from gateway.core.call import Bill, Course
from gateway.core.pricing import MICRO
from gateway.core.tally import SYSTEM_TOKENS_MAX, Counts, Tally, if_lost
from gateway.core.usage import Tried
from gateway.dialects.ollama import GenerateRequest
from gateway.errors import (
    BackendFault,
    BackendTimeout,
    CallAbandoned,
    Draining,
    GatewayError,
    KeyRevoked,
    LeaseLost,
    ModelNotFound,
    StreamBroken,
)
from tests.fakes import call

COUNTS = Counts(prompt_tokens=11, completion_tokens=22, load_ns=7_000_000, finish_reason="stop")


def sent(tally: Tally) -> None:
    tally.backend = "node"
    tally.sent(0)


def seen(tally: Tally) -> None:
    for ms in (40, 50, 60):
        tally.saw_token(ms)


def whole(tally: Tally) -> None:
    tally.saw_whole(text_bytes=10)


def counted(counts: Counts) -> Callable[[Tally], None]:
    return lambda tally: tally.completed(counts)


def ended(error: type[GatewayError]) -> Callable[[Tally], None]:
    return lambda tally: tally.ended(error.code, error.status)


def granted(tally: Tally) -> None:
    tally.admitted(2)


FEW = Counts(prompt_tokens=11, completion_tokens=1)
"""it began anew after the thinking, as with `format`, and counts the second half alone"""
MUCH = Counts(prompt_tokens=11, completion_tokens=10**9)

# tokens of the prompt (10 are expected), tokens of the answer, whether the price is due, estimated
TABLE: list[tuple[str, list[Callable[[Tally], None]], tuple[int, int, bool, bool]]] = [
    ("success: what the backend counted", [sent, seen, counted(COUNTS)], (11, 22, True, False)),
    ("success, not streamed", [sent, counted(COUNTS)], (11, 22, True, False)),
    ("success without a prompt count", [sent, seen, counted(Counts(completion_tokens=22))], (10, 22, True, True)),
    ("success without an answer count", [sent, seen, counted(Counts(prompt_tokens=11))], (11, 3, True, True)),
    ("success without any count", [sent, seen, counted(Counts())], (10, 3, True, True)),
    ("success without an answer", [sent, counted(Counts(prompt_tokens=11))], (11, 0, True, False)),
    ("success with fewer counted than seen", [sent, seen, counted(FEW)], (11, 3, True, True)),
    ("success in one piece without a count", [sent, whole, counted(Counts(prompt_tokens=11))], (11, 4, True, True)),
    ("gone before a backend had it", [ended(CallAbandoned)], (0, 0, False, True)),
    ("gone before the first token", [sent, ended(CallAbandoned)], (10, 0, False, True)),
    ("gone after tokens", [sent, seen, ended(CallAbandoned)], (10, 3, True, True)),
    ("cut after tokens", [sent, seen, ended(Draining)], (10, 3, True, True)),
    ("cut before the first token", [sent, ended(Draining)], (0, 0, False, False)),
    ("revoked after tokens", [sent, seen, ended(KeyRevoked)], (10, 3, True, True)),
    ("lost to somebody who settled it", [sent, seen, ended(LeaseLost)], (0, 0, False, False)),
    (
        "more of a prompt than can be",
        [sent, counted(Counts(prompt_tokens=10**9))],
        (20 + SYSTEM_TOKENS_MAX, 0, True, True),
    ),
    ("more of an answer than it may have", [sent, counted(MUCH)], (11, 100, True, True)),
    ("more of an answer than was granted", [granted, sent, counted(MUCH)], (11, 2, True, True)),
    ("more than was granted, but seen", [granted, sent, seen, counted(MUCH)], (11, 3, True, True)),
    ("failed before the first token", [sent, ended(BackendTimeout)], (0, 0, False, False)),
    ("failed after tokens", [sent, seen, ended(StreamBroken)], (0, 0, False, False)),
    ("failed after everything", [sent, seen, counted(COUNTS), ended(BackendFault)], (0, 0, False, False)),
    ("refused by the backend", [sent, ended(ModelNotFound)], (0, 0, False, False)),
    ("never ended", [sent, seen], (0, 0, False, False)),
]


@pytest.mark.parametrize(("steps", "billed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_ending_has_its_bill(steps: list[Callable[[Tally], None]], billed: tuple[int, int, bool, bool]) -> None:
    tally = Tally(call())
    for step in steps:
        step(tally)
    bill = tally.bill(100)
    assert (bill.prompt_tokens, bill.completion_tokens, bill.paid, bill.estimated) == billed


@pytest.mark.parametrize("counts", [COUNTS, FEW])
def test_only_an_answer_that_the_backend_has_counted_whole_says_how_long_answers_are(counts: Counts) -> None:
    tally = Tally(call())
    sent(tally)
    seen(tally)
    assert not tally.bill(5).whole
    tally.completed(counts)
    assert tally.bill(5).whole is (counts is COUNTS)


def test_times_are_counted_from_the_beginning_of_the_call() -> None:
    tally = Tally(call(began_ms=1_000))
    tally.backend = "node"
    tally.sent(0)
    tally.saw_token(1_040)
    tally.saw_token(1_050)
    tally.completed(COUNTS)
    detail = tally.bill(1_100).detail
    assert (detail.first_token_ms, detail.response_time_ms, detail.load_ms) == (40, 100, 7)
    assert (detail.status, detail.http_status, detail.backend, detail.finish_reason) == ("ok", 200, "node", "stop")


def test_the_client_is_told_the_figures_of_the_bill() -> None:
    tally = Tally(call())
    told, bill = tally.completed(MUCH), tally.bill(5)
    assert (told.prompt_tokens, told.completion_tokens) == (bill.prompt_tokens, bill.completion_tokens) == (11, 100)


def test_a_failure_is_named_in_the_row() -> None:
    tally = Tally(call())
    tally.ended("backend_timeout", 504)
    detail = tally.bill(5).detail
    assert (detail.status, detail.http_status, detail.finish_reason) == ("backend_timeout", 504, "")


def test_a_call_whose_replica_dies_says_what_it_was() -> None:
    detail = if_lost(call(end_user="me"))
    assert (detail.status, detail.http_status, detail.model, detail.end_user) == (
        "replica_lost",
        500,
        call().model,
        "me",
    )


def event_fields(bill: Bill) -> dict[bytes, bytes]:
    """The stream entry that settle.lua makes of the bill."""
    return {
        b"v": b"1",
        b"id": call().id.encode(),
        b"key": call().credential.key_id.encode(),
        b"at": b"1795292735107",
        b"month": b"202611",
        b"prompt": b"%d" % bill.prompt_tokens,
        b"completion": b"%d" % bill.completion_tokens,
        b"credits": b"%d" % (MICRO * bill.paid),
        b"estimated": b"%d" % bill.estimated,
        b"detail": usage.detail_json(bill.detail),
    }


NUMBER = st.integers(0, 10**30) | st.sampled_from([2**31, 2**31 * 10**6, 2**63, 2**64])


@given(NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, st.text())
@example(2**31, 2**31, 0, 0, 0, "stop")
@example(1, 1, 2**31 * 10**6, 0, 0, "stop")
@example(1, 1, 0, 0, 0, "st\0p")
def test_whatever_a_backend_says_the_bill_becomes_a_row(
    prompt: int, completion: int, load: int, prompt_ns: int, eval_ns: int, reason: str
) -> None:
    """A worker puts an event aside that Postgres could not take: then the call would have no row."""
    tally = Tally(call())
    tally.completed(
        Counts(
            prompt_tokens=prompt,
            completion_tokens=completion,
            load_ns=load,
            prompt_ns=prompt_ns,
            eval_ns=eval_ns,
            finish_reason=reason,
        )
    )
    usage.decode(event_fields(tally.bill(100)))


def several(tally: Tally, *counts: Counts) -> Counts:
    """The sum that a list of prompts is billed."""
    total = Counts()
    for one in counts:
        tally.sent(0)
        seen(tally)
        total = tally.completed(one)
    return total


def test_the_answers_to_a_list_of_prompts_are_billed_as_one() -> None:
    further = (GenerateRequest(prompt="x"),)
    total = several(Tally(call(further=further)), COUNTS, COUNTS)
    assert (total.prompt_tokens, total.completion_tokens, total.estimated) == (22, 44, False)
    assert total.load_ns == 2 * COUNTS.load_ns
    silent = several(Tally(call(further=further)), Counts(), Counts())
    assert (silent.prompt_tokens, silent.completion_tokens, silent.estimated) == (10, 6, True)


def test_of_a_list_of_prompts_only_those_that_were_sent_are_charged_to_a_client_that_leaves() -> None:
    tally = Tally(call(further=(GenerateRequest(prompt="x"),)))
    tally.sent(0)
    assert tally.prompt_tokens == 5
    tally.completed(COUNTS)
    tally.sent(0)
    assert tally.prompt_tokens == 10


def test_the_bill_tells_when_the_backend_that_answered_was_given_the_first_prompt() -> None:
    tally = Tally(call(began_ms=100, further=(GenerateRequest(prompt="x"),)))
    assert tally.bill(200).course is None
    tally.waited_ms = 20
    tally.sent(130)
    tally.failed(Tried("a", "backend_timeout", 20, 5))
    assert tally.bill(200).course is None, "the backend that was given it has failed"
    tally.waited_ms = 25
    tally.sent(140)
    tally.completed(COUNTS)
    tally.waited_ms = 60
    tally.failed(Tried("a", "backend_timeout", 35, 5))
    tally.sent(180)
    assert tally.bill(200).course == Course(sent_ms=40, waited_ms=25)
