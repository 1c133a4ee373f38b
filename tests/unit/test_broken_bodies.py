"""Whatever a node sends instead of an answer, a client gets whole frames, and a true end or an error (F39)."""

import json
import random

import pytest

from tests.unit.test_cuts import BODIES, PARSERS, asked, rendered

BROKEN = 10_000
"""bodies in all"""
JUNK = (
    b"\xff\xfe\x00", b"\0", b"{", b"}", b'"', b"\n", b"\r\n", b"[" * 3_000, b'{"a":' * 2_000, b"null\n", b"[]\n",
    b"<html><body>502</body></html>\n", b"0\n", b'"done"\n', b'{"done":true}\n', b'{"error":{"message":1}}\n',
    b'{"error":null}\n', b'{"message":[]}\n', b'{"message":{"content":1}}\n', b'{"message":null,"done":"yes"}\n',
    b'{"response":{"a":1}}\n', b"\xed\xa0\x80", b"\\ud800", b'{"message":{"content":"\\ud800"}}\n', b"1e999", b"-0",
    b"NaN\n", b"data: {}\n\n",
)  # fmt: skip


def broken(body: bytes, chance: random.Random) -> bytes:
    """A good body after one to four accidents."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body) + 1)
        to = min(len(body), at + chance.choice((1, 2, 8, 64, 4_096)))
        match chance.randrange(5):
            case 0:
                body = body[:at]
            case 1:
                body = body[:at] + body[to:]
            case 2:
                body = body[:at] + chance.choice(JUNK) + body[at:]
            case 3:
                body = body[:at] + chance.randbytes(to - at) + body[to:]
            case 4:
                body = body[:to] + body[at:]
    return body


def check(route: str, got: bytes) -> bool:
    """Every frame can be read, and the last is an end or an error. Whether it is an error."""
    *frames, rest = got.decode().split("\n\n" if got.startswith((b"data:", b"event:")) else "\n")
    assert rest == "", "a part of a frame"
    said = [frame.rpartition("data: ")[2] for frame in frames]
    objects = [json.loads(one) for one in said if one != "[DONE]"]
    failed = "error" in objects[-1] or objects[-1].get("type") in ("error", "response.failed")
    assert not (failed and said[-1] == "[DONE]")
    return failed


@pytest.mark.parametrize("route", PARSERS)
def test_f39_ten_thousand_broken_bodies(route: str, seed: str) -> None:
    chance = random.Random(seed)
    request, failed = asked(route, special=False), 0
    count = BROKEN // len(PARSERS) + 1
    for _ in range(count):
        body = broken(BODIES[chance.choice(sorted(BODIES))], chance)
        cut = chance.randrange(len(body) + 1)
        failed += check(route, rendered(request.renderer("id", 1), [body[:cut], body[cut:]]))
    print(f"\n{route}: {failed} of {count} broken bodies were told as errors")
    assert failed > count // 2
