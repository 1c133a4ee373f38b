"""Our reading of HTTP is aiohttp's: on good answers in any pieces, and on what chance makes of them."""

import os
import random
import re
from collections.abc import Callable, Iterable

import pytest
from msgspec.structs import replace

from tests.parsed_answers import NONE, Wired, aiohttps, ours
from tests.scripted_node import END, HEAD, chunk, sized

ROUNDS = int(os.environ.get("ANSWERS", "4000"))
"""ANSWERS=1000000: a long run by hand, of two minutes"""
MUTATIONS_MAX = 3
ODD_TRANSFER = re.compile(rb"(?i)transfer-encoding[ \t]*:(?![ \t]*chunked\r\n(?![ \t]))")
LINES = b'{"a":1}\n' * 3
FRAMED = [
    sized(b""),
    sized(LINES),
    sized(LINES, "200 OK", "Connection: keep-alive", "Keep-Alive: timeout=5", "Content-Encoding: identity"),
    sized(LINES, "404 Not Found", "Connection: close"),
    sized(b"", "204 No Content"),
    HEAD + END,
    HEAD + chunk(LINES) + chunk(b"x") + END,
    HEAD + b"8;a=b;c\r\n" + LINES[:8] + b"\r\n0;last\r\nTrailer: x\r\nContent-Encoding: br\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + chunk(LINES) + END,
    b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + sized(LINES),
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
]
ENDED_BY_CLOSING = [
    b"HTTP/1.1 200 OK\r\n\r\n" + LINES,
    b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + LINES,
]
GOOD = FRAMED + ENDED_BY_CLOSING
SPLICES = [
    b"\r\n", b"\n", b"\r", b"0", b"0\r\n\r\n", b"-1", b"+", b" ", b"\t", b":", b";", b"\0", b"\xff", b"f" * 17,
    b"HTTP/1.1 ", b"HTTP/1.0 ", b"204 ",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: br\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n", b"chunked", b"100", b"X: " + b"y" * 200 + b"\r\n",
]  # fmt: skip


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = sorted(cuts)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True) if start < end]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One thing is changed, lost, doubled or put in."""
    at = chance.randrange(len(data) + 1)
    until = min(len(data), at + chance.choice((1, 1, 2, 9)))
    changed: dict[str, Callable[[], bytes]] = {
        "byte": lambda: data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :],
        "bit": lambda: (
            data[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
        ),
        "lost": lambda: data[:at] + data[until:],
        "doubled": lambda: data[:until] + data[at:],
        "cut": lambda: data[:at],
        "spliced": lambda: data[:at] + chance.choice(SPLICES) + data[at:],
        "joined": lambda: data[:at] + chance.choice(GOOD)[chance.randrange(20) :],
    }
    return changed[chance.choice(list(changed))]()


@pytest.mark.parametrize("answer", GOOD)
async def test_good_answers_are_the_same_wherever_they_are_cut(answer: bytes) -> None:
    whole = await aiohttps([answer])
    assert whole != NONE
    for at in range(1, len(answer)):
        assert ours(pieces(answer, (at,)), as_lenient=False) == whole
    assert ours([bytes((byte,)) for byte in answer], as_lenient=False) == whole


@pytest.mark.parametrize("answer", FRAMED)
async def test_no_beginning_of_an_answer_is_one(answer: bytes) -> None:
    for at in range(len(answer) - 1):
        assert ours([answer[:at]], as_lenient=False) == await aiohttps([answer[:at]]) == NONE


async def test_what_chance_makes_of_answers_is_read_as_aiohttp_reads_it(seed: str) -> None:
    """What it refuses is no answer to us either, nor any other than its own. Where we are stricter we only refuse."""
    chance, answers = random.Random(seed), 0
    for _ in range(ROUNDS):
        data = chance.choice(GOOD)
        for _ in range(chance.randint(1, MUTATIONS_MAX)):
            data = mutated(data, chance)
        reads = pieces(data, (chance.randrange(len(data) + 1) for _ in range(chance.choice((0, 0, 1, 3)))))
        strict, lenient = ours(reads, as_lenient=False), ours(reads, as_lenient=True)
        theirs = await aiohttps(reads)
        assert strict in (lenient, NONE), reads
        if strict != NONE and theirs == NONE:  # it minds what comes behind an answer, if it is read together with it
            theirs = await aiohttps([shortest(data)])
        odd = ODD_TRANSFER.search(data)  # its llhttp is the older one; and all that is not in chunks we call encoded
        expected = replace(theirs, encoded=theirs.encoded or bool(odd and lenient.encoded))
        assert strict in (expected, NONE), reads
        assert theirs == NONE or lenient == expected or (odd and lenient == NONE), reads
        answers += strict != NONE
    print(f"{ROUNDS} mutated answers read alike, {answers} of them still answers")
    assert 0.1 < answers / ROUNDS < 0.9


def shortest(data: bytes) -> bytes:
    """The answer that the bytes begin with."""
    wired = Wired()
    reply = wired.ask()
    for at in range(len(data)):
        wired.connection.data_received(data[at : at + 1])
        if reply.complete:
            return data[: at + 1]
    return data
