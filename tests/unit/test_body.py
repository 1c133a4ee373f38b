"""Bodies are bounded before they are read and checked before they are decoded."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, BodyTooLarge, BodyTooSlow, CallAbandoned, EncodingUnsupported, Overloaded
from gateway.web import body
from gateway.web.body import DEPTH_MAX, Intake, check_depth
from tests.fakes import turns

BIG = 10_000_000


class Client:
    """Sends these messages, then nothing any more."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages: Iterator[dict[str, Any]] = iter(messages)
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        for message in self._messages:
            return message
        await asyncio.Event().wait()
        raise AssertionError


def part(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("messages", "whole"),
    [
        ([part(b"abc")], b"abc"),
        ([part(b"a", True), part(b"", True), part(b"bc")], b"abc"),
        ([part(b"", True), part(b"")], b""),
        ([{"type": "http.request"}], b""),
    ],
)
async def test_a_body_is_read_to_its_end(messages: list[dict[str, Any]], whole: bytes) -> None:
    assert await Intake(3).read(Client(*messages).receive, []) == whole


@pytest.mark.parametrize("length", [b"4", b"100000000000000000000000"])
async def test_a_body_that_says_it_is_too_large_is_not_read(length: bytes) -> None:
    client = Client()
    with pytest.raises(BodyTooLarge):
        await Intake(3).read(client.receive, [(b"content-length", length)])
    assert client.asked == 0


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"3")], [(b"content-length", b"-5")]])
async def test_a_body_that_grows_too_large_is_left_there(headers: list[tuple[bytes, bytes]]) -> None:
    client = Client(part(b"ab", True), part(b"cd", True))
    with pytest.raises(BodyTooLarge):
        await Intake(3).read(client.receive, headers)
    assert client.asked == 2


async def test_a_client_that_leaves_has_left() -> None:
    with pytest.raises(CallAbandoned):
        await Intake(3).read(Client(part(b"a", True), GONE).receive, [])


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_S", 0.0)
    with pytest.raises(BodyTooSlow):
        await Intake(3).read(Client(part(b"a", True)).receive, [])


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"identity, gzip", b" GZIP "])
async def test_an_encoded_body_is_refused(encoding: bytes) -> None:
    with pytest.raises(EncodingUnsupported):
        await Intake(3).read(Client().receive, [(b"content-encoding", encoding)])


@pytest.mark.parametrize("encoding", [b"", b"identity", b" Identity "])
async def test_a_body_that_is_as_it_is_may_say_so(encoding: bytes) -> None:
    assert await Intake(3).read(Client(part(b"a")).receive, [(b"content-encoding", encoding)]) == b"a"


async def test_all_bodies_that_are_on_their_way_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "ARRIVING_BYTES_MAX", 5)
    intake = Intake(4)
    slow = asyncio.create_task(intake.read(Client(part(b"abc", True)).receive, []))
    await turns(3)
    with pytest.raises(Overloaded):
        await intake.read(Client(part(b"abc")).receive, [])
    assert await intake.read(Client(part(b"ab")).receive, []) == b"ab"
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert await intake.read(Client(part(b"abcd")).receive, []) == b"abcd", "what is over counts no more"


def nested(depth: int, inner: str = "1") -> bytes:
    return ("[" * depth + inner + "]" * depth).encode()


def too_deep(raw: bytes) -> bool:
    try:
        check_depth(raw)
    except BadRequest:
        return True
    return False


BRACKETS = st.text(alphabet='[]{}"\\x\n', max_size=200)


@given(st.integers(DEPTH_MAX - 2, DEPTH_MAX + 2), BRACKETS, st.booleans())
def test_depth_is_counted_exactly_and_never_within_strings(depth: int, text: str, as_name: bool) -> None:
    inner = json.dumps({text: 0} if as_name else [text])
    assert too_deep(nested(depth - 1, inner)) is (depth > DEPTH_MAX)


@given(BRACKETS)
def test_wide_is_not_deep(text: str) -> None:
    wide = json.dumps([[text], {text: {}}] * 50)
    assert not too_deep(wide.encode())


@given(st.binary() | BRACKETS.map(str.encode))
def test_what_is_no_json_is_no_error_of_the_check(raw: bytes) -> None:
    too_deep(nested(0, "[]" * DEPTH_MAX) + raw)


MANY = b"[]" * (DEPTH_MAX + 1)  # without these the check is over before it begins
ADVERSARIAL = {
    "opened": (b"", b"[", BIG, b""),
    "opened objects": (b"", b'{"":', BIG // 4, b""),
    "closed": (MANY, b"]", BIG // 10, b""),
    "strings": (MANY, b'""', BIG // 20, b""),
    "one open string": (MANY + b'"', b"x", BIG, b""),
    "escaped quotes": (MANY + b'"', b'\\"', BIG // 2, b""),
    "quotes and backslashes": (MANY, b'"\\', BIG // 2, b""),
    "backslashes": (MANY + b'"', b"\\", BIG, b""),
    "a backslash at the end": (MANY + b'"', b"x", BIG, b"\\"),
    "escaped quotes and a backslash at the end": (MANY + b'"', b'\\"', BIG // 2, b"\\"),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("before", "unit", "times", "after"), ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_no_body_is_slow_to_check(before: bytes, unit: bytes, times: int, after: bytes) -> None:
    """Linear: quadratic would take hours. 160 bytes once held a replica up for seconds, 200 bytes for days."""
    assert too_deep(before + unit * times + after) is (not before)
