"""Stop sequences: the text is cut in front of the first, wherever the backend cut its lines, and nothing is lost."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tally import Counts
from gateway.dialects import asked, policy
from gateway.dialects.ollama import CUT, Function, Message, Reply, ToolCall
from gateway.dialects.policy import STOP_CHARS_MAX, STOPS_MAX
from gateway.dialects.stops import Search, Stopping
from gateway.errors import BadRequest, Draining, GatewayError

FEW = st.text("ab\n", max_size=12)
SEQUENCES = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3)


class Written(asked.Renderer):
    """Writes what it is given as it is: text, <thoughts>, {calls}, and the sequence it was told of."""

    content_type = b"text/test"
    beat = b"beat"

    def __init__(self) -> None:
        self.sequence = ""

    def stopped_at(self, sequence: str) -> None:
        assert not self.sequence
        self.sequence = sequence

    def feed(self, reply: Reply) -> bytes:
        thought = f"<{reply.thought}>" if reply.thought else ""
        calls = "".join(f"{{{call.function.name}}}" for call in reply.tool_calls)
        return (thought + reply.text + calls).encode()

    def last(self, reply: Reply, counts: Counts) -> bytes:
        return self.feed(reply) + f"|{reply.done_reason}|{self.sequence}".encode()

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        return self.last(reply, counts)

    def error(self, error: GatewayError) -> bytes:
        return error.code.encode()


def line(text: str = "", thought: str = "", *calls: str, **fields: Any) -> Reply:
    made = [ToolCall(Function(name)) for name in calls]
    return Reply(message=Message(content=text, thinking=thought, tool_calls=made), **fields)


def run(sequences: list[str], *lines: Reply) -> str:
    """What the client gets, with the pipeline's part played: an ended answer gets `CUT`, not the rest."""
    stopping, out = Stopping(Written(), sequences), b""
    for one in lines:
        if one.done:
            return (out + stopping.last(one, Counts())).decode()
        out += stopping.feed(one)
        if stopping.ended:
            return (out + stopping.last(CUT, Counts())).decode()
    return out.decode()


def first(text: str, sequences: list[str]) -> tuple[str, str]:
    """The meaning: read letter by letter, the first sequence to be complete, the longest of several, ends the text."""
    for end in range(1, len(text) + 1):
        complete = [one for one in sequences if text[:end].endswith(one)]
        if complete:
            found = max(complete, key=len)
            return text[: end - len(found)], found
    return text, ""


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(places)] or [""]


@given(FEW, SEQUENCES, st.lists(st.integers(0, 12)), st.booleans())
def test_the_cut_does_not_depend_on_how_the_text_arrives(
    text: str, sequences: list[str], cuts: list[int], in_last_line: bool
) -> None:
    kept, found = first(text, sequences)
    *pieces, end = pieces_of(text, cuts)
    lines = [line(piece) for piece in pieces]
    lines += [line(end, done=True, done_reason="length")] if in_last_line else [line(end), line(done=True)]
    said, _, sequence = run(sequences, *lines).split("|")
    assert (said, sequence) == (kept, found)


@given(FEW, SEQUENCES, st.lists(st.integers(0, 12)))
def test_nothing_is_given_that_may_still_be_cut_and_no_more_is_kept_back_than_that(
    text: str, sequences: list[str], cuts: list[int]
) -> None:
    search, given_out, seen = Search(sequences), "", ""
    for piece in pieces_of(text, cuts):
        certain, found = search.feed(piece)
        given_out, seen = given_out + certain, seen + piece
        assert first(text, sequences)[0].startswith(given_out)
        if found:
            return
        held = seen.removeprefix(given_out)
        assert seen == given_out + held
        assert not held or any(len(held) < len(one) and one.startswith(held) for one in sequences)
    assert given_out + search.rest() == text


def test_the_answer_ends_at_once_and_what_the_backend_still_says_is_not_heard() -> None:
    stopping = Stopping(Written(), ["END"])
    assert stopping.feed(line("one E")) == b"one "
    assert stopping.feed(line("N")) == b""
    assert not stopping.ended
    assert stopping.feed(line("D two", "", "f")) == b""
    assert stopping.ended
    assert stopping.last(CUT, Counts()) == b"|stop|END"


def test_what_was_kept_back_comes_when_the_text_ends_otherwise() -> None:
    assert run(["END"], line("an EN"), line(done=True, done_reason="stop")) == "an EN|stop|"


def test_thoughts_and_calls_end_a_text_and_keep_their_place() -> None:
    assert run(["END"], line("E"), line("ND", "hm"), line(done=True)) == "E<hm>ND||"
    assert run(["END"], line("E"), line("", "", "f"), line("ND"), line(done=True)) == "E{f}ND||"
    assert run(["END"], line("", "END"), line("x"), line(done=True)) == "<END>x||"
    assert run(["END"], line("E"), line("N", "hm", "f", done=True)) == "E<hm>N{f}||"


def test_a_whole_answer_is_cut_too_and_loses_the_calls_after_the_cut() -> None:
    stopping = Stopping(Written(), ["END"])
    assert stopping.whole(line("a END b", "hm", "f", done=True, done_reason="stop"), Counts()) == b"<hm>a |stop|END"


def test_the_rest_of_a_renderer_is_that_of_the_one_within() -> None:
    stopping = Stopping(Written(), ["x"])
    assert (stopping.content_type, stopping.beat, stopping.error(Draining())) == (b"text/test", b"beat", b"draining")


@pytest.mark.parametrize("sequences", [["x"] * (STOPS_MAX + 1), ["x", "x" * (STOP_CHARS_MAX + 1)], "x" * 300])
def test_too_many_and_too_long_ones_are_refused(sequences: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        policy.stops(sequences, "stop_sequences")
    assert refused.value.param == "stop_sequences"


def test_as_many_and_as_long_as_allowed_are_taken_and_empty_ones_left_out() -> None:
    sequences = ["x" * STOP_CHARS_MAX] * STOPS_MAX
    assert policy.stops(sequences) == sequences
    assert (policy.stops(""), policy.stops(["", "a"]), policy.stops("a")) == ([], ["a"], ["a"])
