"""One connection to a node: what it keeps for its reader, when it serves again, and how much it puts up with."""

import asyncio

import pytest

from gateway.backends.connection import HEADERS_MAX, QUIET_BYTES_MAX, TOGETHER_BYTES_MAX
from gateway.backends.reply import PARTS_MAX, TURN_BYTES_MAX, UNREAD_BYTES_MAX, Broken
from tests.parsed_answers import Wired
from tests.scripted_node import END, HEAD, chunk, sized

LINE = b'{"a":1}\n'
READ = chunk(b"x" * UNREAD_BYTES_MAX)


async def test_it_is_free_with_the_last_byte_and_what_came_stays_with_its_reply() -> None:
    wired = Wired()
    first = wired.ask(HEAD, chunk(LINE), END[:-1])
    assert (wired.freed, first.complete) == (0, False)
    wired.connection.data_received(END[-1:])
    assert (wired.freed, first.complete) == (1, True)
    second = wired.ask(sized(b"other"))
    first.close()
    assert (first.take(), first.take(), second.take()) == (LINE, b"", b"other")
    assert (wired.freed, wired.lost, wired.transport.closed) == (2, 0, False)


async def test_what_has_come_is_given_before_what_went_wrong() -> None:
    wired = Wired()
    reply = wired.ask(HEAD, chunk(LINE), chunk(LINE) + b"no size\r\n")
    assert wired.transport.closed and wired.lost == 1
    assert reply.has(1) and isinstance(reply.failure, Broken)
    assert reply.take() == LINE * 2


async def test_a_node_is_not_read_from_further_than_somebody_takes_it() -> None:
    wired = Wired()
    reply = wired.ask(HEAD, READ)
    assert not wired.transport.paused
    wired.connection.data_received(chunk(LINE))
    assert wired.transport.paused
    assert len(reply.take()) == UNREAD_BYTES_MAX + len(LINE)
    assert not wired.transport.paused
    wired.connection.data_received(READ + READ)
    assert wired.transport.paused
    wired.connection.data_received(END)  # on its way already
    assert not wired.transport.paused, "who asks next does not wait for this reader"


async def test_who_waits_for_all_of_it_is_not_kept_waiting_by_how_much_there_is() -> None:
    wired = Wired()
    reply = wired.ask(HEAD, READ + READ)
    assert wired.transport.paused
    waiting = reply.more(3 * UNREAD_BYTES_MAX)
    assert not wired.transport.paused
    wired.connection.data_received(chunk(LINE))
    assert not wired.transport.paused and not waiting.done()
    wired.connection.data_received(READ)
    assert wired.transport.paused and waiting.done()


async def test_what_is_drained_is_not_kept() -> None:
    wired = Wired()
    reply = wired.ask(HEAD, READ + READ)
    reply.drain(60)
    for _ in range(9):
        wired.connection.data_received(READ)
    assert (reply.unread_bytes, wired.transport.paused) == (0, False)
    wired.connection.data_received(END)
    assert (reply.take(), wired.freed) == (b"", 1)


async def test_what_is_poured_is_taken_as_it_comes() -> None:
    wired, seen = Wired(), []
    reply = wired.ask(HEAD, chunk(b"a") + chunk(b"b"))
    poured = reply.pour(lambda piece: bool(seen.append(piece)))
    wired.connection.data_received(chunk(b"c"))
    assert (seen, poured.done()) == ([b"ab", b"c"], False)
    wired.connection.data_received(chunk(b"d") + END)
    assert (seen, poured.done(), reply.failure) == ([b"ab", b"c", b"d"], True, None)


async def test_who_has_enough_of_what_is_poured_gets_no_more() -> None:
    wired, seen = Wired(), []
    reply = wired.ask(HEAD, chunk(b"a"))
    poured = reply.pour(lambda piece: not seen.append(piece))
    wired.connection.data_received(chunk(b"b") + chunk(LINE) + b"no size\r\n")
    assert (seen, poured.done()) == ([b"a"], True)
    assert isinstance(reply.failure, Broken)


async def test_whoever_was_poured_for_and_has_left_gets_no_more() -> None:
    wired, seen = Wired(), []
    reply = wired.ask(HEAD, chunk(b"a"))
    poured = reply.pour(lambda piece: bool(seen.append(piece)))
    poured.cancel()
    wired.connection.data_received(chunk(b"b"))
    assert seen == [b"a"]


async def test_a_bug_in_whoever_takes_it_is_his_and_ends_it() -> None:
    wired = Wired()
    reply = wired.ask(HEAD)
    poured = reply.pour(lambda piece: bool(1 / 0))
    wired.connection.data_received(chunk(b"a"))
    wired.connection.data_received(chunk(b"b"))
    with pytest.raises(ZeroDivisionError):
        await poured


async def test_whoever_is_poured_for_hears_that_it_was_closed() -> None:
    reply = Wired().ask(HEAD)
    poured = reply.pour(lambda piece: False)
    reply.close()
    assert poured.done()


async def test_after_much_that_is_poured_others_have_their_turn() -> None:
    wired = Wired()
    reply = wired.ask(HEAD)
    reply.pour(lambda piece: False)
    wired.connection.data_received(chunk(b"x" * TURN_BYTES_MAX))
    assert not wired.transport.paused
    wired.connection.data_received(READ)
    assert wired.transport.paused
    await asyncio.sleep(0)
    assert not wired.transport.paused


async def test_small_bodies_go_with_their_head_and_large_ones_are_not_copied() -> None:
    wired = Wired()
    wired.connection.send(b"h", b"b" * TOGETHER_BYTES_MAX)
    assert len(wired.transport.written) == 1
    wired = Wired()
    body = b"b" * (TOGETHER_BYTES_MAX + 1)
    wired.connection.send(b"h", body)
    assert wired.transport.written[1] is body


async def test_an_answer_to_half_a_request_ends_the_connection() -> None:
    wired = Wired()
    reply = wired.connection.send(b"h", b"b")
    wired.transport.unsent_bytes = 1
    wired.connection.data_received(sized(b"too large", "413 Content Too Large"))
    assert (reply.status, reply.take(), wired.freed, wired.transport.closed) == (413, b"too large", 0, True)


@pytest.mark.parametrize("more", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"\r\n", b"\0"])
async def test_what_nobody_asked_for_ends_it(more: bytes) -> None:
    wired = Wired()
    wired.ask(sized(b""))
    wired.connection.data_received(more)
    assert (wired.transport.closed, wired.lost) == (True, 1)
    with pytest.raises(Broken):
        wired.connection.send(b"h", b"")


async def test_the_beginning_of_a_second_answer_ends_it() -> None:
    wired = Wired()
    reply = wired.ask(sized(b"1") + b"H")
    assert (reply.take(), wired.freed, wired.transport.closed) == (b"1", 0, True)


async def test_a_body_that_ends_by_closing_does_not_end_by_a_reset() -> None:
    for error, complete in ((None, True), (ConnectionResetError(), False)):
        wired = Wired()
        reply = wired.ask(b"HTTP/1.1 200 OK\r\n\r\n" + LINE)
        wired.connection.connection_lost(error)
        assert (reply.complete, bool(reply.failure), reply.take()) == (complete, not complete, LINE)


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "chunked, gzip", "identity, chunked"])
async def test_transfers_other_than_in_chunks_are_encoded(coding: str) -> None:
    reply = Wired().ask(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n".encode())
    assert reply.encoded


async def test_trailers_change_nothing() -> None:
    wired = Wired()
    reply = wired.ask(HEAD + chunk(LINE) + b"0\r\nContent-Encoding: gzip\r\n\r\n")
    assert (reply.complete, reply.encoded, wired.freed) == (True, False, 1)


@pytest.mark.parametrize(
    "endless",
    [
        [b"HTTP/1.1 200 " + b"O" * 9_999] + [b"O" * 9_999] * 9,
        [b"HTTP/1.1 200 OK\r\nX: "] + [b"y" * 9_999] * 9,
        [b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n" * 99] * 9,
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 99] * 99,
        [HEAD + chunk(LINE) + b"8;"] + [b"x" * 9_999] * 9,
        [HEAD + chunk(LINE)] + [b"0" * 9_999] * 9,
        [HEAD + chunk(LINE) + b"0\r\n"] + [b"X: y\r\n" * 99] * 9,
        [HEAD + chunk(LINE) + b"0\r\nX: "] + [b"y" * 9_999] * 9,
    ],
    ids=["reason", "header", "headers", "interim", "extension", "size", "trailers", "trailer"],
)
async def test_there_is_an_end_to_all_that_is_no_body(endless: list[bytes]) -> None:
    wired = Wired()
    reply = wired.connection.send(b"h", b"")
    read = 0
    for data in endless:
        if not wired.transport.closed:
            wired.connection.data_received(data)
            read += len(data)
    assert isinstance(reply.failure, Broken)
    assert read < QUIET_BYTES_MAX + 10_000


async def test_one_read_may_not_hold_more_headers_either() -> None:
    for lines in (b"X: y\r\n" * (HEADERS_MAX + 1), b"X: " + b"y" * 100_000 + b"\r\n"):
        reply = Wired().ask(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n")
        assert isinstance(reply.failure, Broken)


async def test_a_stream_in_single_bytes_is_not_too_much_that_is_no_body() -> None:
    reply = Wired().ask(HEAD, *[bytes((byte,)) for byte in chunk(b"x") * 30_000], END)
    assert len(reply._parts) <= PARTS_MAX + 1
    assert reply.take() == b"x" * 30_000


@pytest.mark.parametrize("upgrade", ["", "Connection: upgrade\r\nUpgrade: x\r\n"])
@pytest.mark.parametrize("more", [b"", b"whatever"])
async def test_no_protocol_is_switched(upgrade: str, more: bytes) -> None:
    wired = Wired()
    reply = wired.ask(f"HTTP/1.1 101 Switching\r\n{upgrade}\r\n".encode() + more)
    assert (reply.status, reply.complete, reply.take(), wired.transport.closed) == (101, True, b"", True)


async def test_an_interim_answer_says_nothing_of_the_one_that_counts() -> None:
    wired = Wired()
    reply = wired.ask(b"HTTP/1.1 103 Early\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n")
    assert (reply.status, reply.complete) == (0, False)
    wired.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n" + LINE)
    wired.connection.eof_received()
    assert (reply.encoded, reply.complete, reply.take()) == (False, True, LINE)
