"""The client's reading of answers, however they are cut; and what other programs say."""

import asyncio
import random
import time
from typing import Any, cast

import pytest

from tests.bench import answers, request, wrk
from tests.bench.answers import format_of
from tests.bench.connection import Connection
from tests.bench.tally import Tally

STREAM = answers.stream_head(answers.NDJSON) + format_of(b"/api/chat", "n7").burst
WHOLE = answers.response(format_of(b"/api/chat", "s300").whole)


class Wire:
    """As much of a transport as a connection needs."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        pass


def connected(**how: Any) -> tuple[Connection, Tally, list[Connection]]:
    ended: list[Connection] = []
    connection, tally = Connection(ended.append, **how), Tally()
    connection.connection_made(cast(asyncio.BaseTransport, Wire()))
    connection.send(b"?", tally)
    return connection, tally, ended


@pytest.mark.parametrize(("answer", "chunks"), [(STREAM, 7), (WHOLE, 0)])
def test_an_answer_is_read_to_its_end_however_it_is_cut(answer: bytes, chunks: int) -> None:
    for _ in range(50):
        connection, tally, ended = connected()
        cuts = sorted(random.sample(range(1, len(answer)), random.randint(0, 6)))
        for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True):
            assert not ended
            connection.data_received(answer[start:end])
        assert (ended, tally.requests, tally.chunks, +tally.errors) == ([connection], 1, chunks, {})
        assert connection.well


def test_another_status_is_an_error_and_no_good_answer() -> None:
    connection, tally, ended = connected()
    connection.data_received(answers.response(b"{}", b"429 Too Many Requests"))
    assert (len(ended), tally.errors, connection.well, connection.whole) == (1, {"429": 1}, False, True)


def test_a_connection_that_ends_in_an_answer_is_an_error_and_one_between_two_is_none() -> None:
    connection, tally, ended = connected()
    connection.data_received(STREAM[:-1])
    connection.connection_lost(None)
    assert (len(ended), tally.errors, tally.requests, connection.well) == (1, {"cut": 1}, 0, False)
    connection, tally, ended = connected()
    connection.data_received(STREAM)
    connection.connection_lost(None)
    assert (len(ended), +tally.errors) == (1, {})


def test_bytes_after_an_answer_are_an_error() -> None:
    connection, tally, _ = connected()
    connection.data_received(WHOLE)
    connection.data_received(b"x")
    assert tally.errors == {"more than an answer": 1}


def test_times_are_what_the_way_adds_and_not_what_the_node_takes() -> None:
    connection, tally, _ = connected(timed=True)
    form, node_ns = format_of(b"/api/chat", "n7"), 5 * 10**9
    received_ns = connection.sent_ns + 2_000
    left_ns = time.monotonic_ns() - 3_000
    connection.data_received(answers.stream_head(answers.NDJSON) + form.chunk(received_ns - node_ns, left_ns))
    assert 3_000 <= tally.chunk_ns[0] < 10**9
    assert tally.first_ns[0] == tally.chunk_ns[0] + 2_000 - node_ns


def test_wrk_is_understood() -> None:
    output = 'Running\n\nRESULT {"requests":5,"duration_us":9,"statuses":1,"broken":0,"p50_us":3,"p99_us":4}\n'
    told = wrk.read(output)
    assert (told.requests, told.statuses, told.p99_us) == (5, 1, 4)
    with pytest.raises(ValueError, match="no result"):
        wrk.read("unable to connect")
    assert "RESULT" in wrk.script("/api/chat", "key", request.body(request.NATIVE, "s1", prompt_bytes=9, stream=False))
