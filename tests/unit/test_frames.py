"""Framing does not depend on where the network cuts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import frames
from gateway.dialects.frames import LINE_BYTES_MAX, Lines, sse
from gateway.errors import StreamBroken
from tests import exchanges

BODIES = [one["response"]["body"].encode() for one in exchanges.recorded("A", "B") if one["response"]["status"] == 200]
RECORDED = st.sampled_from(BODIES)
ODD = st.lists(st.sampled_from([b"\n", b"\r\n", b" ", b"{}", b"\x00", "ü".encode(), b"x"])).map(b"".join)


def cut(body: bytes, data: st.DataObject) -> list[bytes]:
    """The body in pieces, some of them empty."""
    at = data.draw(st.lists(st.integers(0, len(body))))
    return [body[start:end] for start, end in pairwise([0, *sorted(at), len(body)])]


def lines_of(pieces: list[bytes]) -> list[bytes]:
    lines = Lines()
    return [line for piece in pieces for line in lines.feed(piece)] + lines.rest()


@given(RECORDED | ODD, st.data())
def test_the_lines_are_the_same_wherever_the_body_is_cut(body: bytes, data: st.DataObject) -> None:
    assert lines_of(cut(body, data)) == [line for line in body.split(b"\n") if line.strip()]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_the_lines_are_the_same_byte_by_byte(body: bytes) -> None:
    assert lines_of([body[at : at + 1] for at in range(len(body))]) == [part for part in body.split(b"\n") if part]


def test_a_line_may_be_as_long_as_allowed_and_no_longer() -> None:
    line = b"x" * LINE_BYTES_MAX
    assert lines_of([line[:9], line[9:], b"\n"]) == [line]
    lines = Lines()
    assert lines.feed(line) == []
    with pytest.raises(StreamBroken, match="too long"):
        lines.feed(b"x")


def test_the_rest_is_given_once() -> None:
    lines = Lines()
    lines.feed(b"a\nb")
    assert [lines.rest(), lines.rest()] == [[b"b"], []]


def test_an_event_is_one_data_line() -> None:
    assert sse(b"{}") == b"data: {}\n\n"
    assert frames.SSE_DONE == b"data: [DONE]\n\n"
