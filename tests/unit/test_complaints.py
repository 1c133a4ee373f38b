"""What libraries log comes out as lines of our own: bounded, seldom, and without what their messages quote."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.telemetry.complaints import REASON_CHARS_MAX, Complaints
from gateway.telemetry.logs import Log
from gateway.telemetry.seldom import REST_S, Seldom

NAME = "tests.of.complaints"
CANARY = "a canary"


class Heard:
    def __init__(self) -> None:
        self.now_s = 0.0
        self._out = io.StringIO()
        self.complaints = Complaints("library", NAME, Seldom(Log(lambda: 0.0, self._out), lambda: self.now_s))

    @property
    def lines(self) -> list[dict[str, Any]]:
        assert CANARY not in self._out.getvalue()
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    heard.complaints.listen()
    yield heard
    heard.complaints.ignore()


def raised() -> Exception:
    try:
        raise KeyError(CANARY)
    except KeyError as error:
        return error


def test_an_error_is_its_type_and_place(heard: Heard) -> None:
    logging.getLogger(NAME + ".below").error("It failed for %s\n", CANARY, exc_info=raised())
    (line,) = heard.lines
    assert (line["level"], line["event"], line["reason"]) == ("warning", "library", "It failed for %s")
    assert line["error"] == "KeyError"
    assert line["where"][-1].startswith("test_complaints.py:")


def test_a_traceback_as_text_is_the_error_that_is_being_handled(heard: Heard) -> None:
    """So uvicorn tells of a lifespan that failed."""
    try:
        raise raised()
    except KeyError:
        logging.getLogger(NAME).error(f"Traceback (most recent call last):\n  File …\nKeyError: {CANARY}")
    (line,) = heard.lines
    assert (line["reason"], line["error"]) == ("Traceback (most recent call last):", "KeyError")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OSError(98, "address in use"), "address in use"),
        (ValueError(CANARY), "ValueError"),
        ("x" * 10_000, "x" * REASON_CHARS_MAX),
    ],
)
def test_a_reason_is_bounded(heard: Heard, text: object, reason: str) -> None:
    logging.getLogger(NAME).error(text)
    assert [line["reason"] for line in heard.lines] == [reason]


def test_each_place_complains_once_a_minute(heard: Heard) -> None:
    for _ in range(3):
        logging.getLogger(NAME).warning("one")
    logging.getLogger(NAME).warning("another")
    logging.getLogger(NAME).info("nothing")
    assert [line["reason"] for line in heard.lines] == ["one", "another"]
    heard.now_s = REST_S
    logging.getLogger(NAME).warning("later")
    assert len(heard.lines) == 3
