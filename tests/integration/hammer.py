"""A process that sends commands as a replica would, prepared and in bulk: many tens of thousands a second.

It is started by `multiprocessing`, so it imports little. A command is bytes in which call ids and numbers, all of one
width, are put in place of others.
"""

import random
import socket
from array import array
from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis
from msgspec import Struct

BATCH = 500
READ_BYTES = 1 << 18
ID_OF_NOBODY = "019a0000-0000-7000-8000-ffffffffffff"
NUMBERS_OF_NOBODY = (676_767, 787_878)
"""stand in a prepared command for the numbers that belong there"""
DIGITS = 6


class Wire:
    """One connection: many commands out, as many replies back."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._reader = hiredis.Reader()
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(parts.path)
        else:
            self._socket = socket.create_connection((parts.hostname or "", parts.port or 6379))
        if parts.password:
            self.ask([packed("AUTH", unquote(parts.password))], 1)

    def ask(self, commands: Sequence[bytes], replies: int) -> list[Any]:
        self._socket.sendall(b"".join(commands))
        found: list[Any] = []
        while len(found) < replies:
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(READ_BYTES))
            elif isinstance(reply, Exception):
                raise reply
            else:
                found.append(reply)
        return found

    def close(self) -> None:
        self._socket.close()


def packed(*parts: Any) -> bytes:
    """A command as the protocol has it."""
    texts = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)


class Prepared(Struct, frozen=True):
    """A command of the call of nobody with the numbers of nobody."""

    text: bytes

    def of(self, call_id: str, *numbers: int) -> bytes:
        text = self.text.replace(ID_OF_NOBODY.encode(), call_id.encode())
        for stands, number in zip(NUMBERS_OF_NOBODY, numbers, strict=False):
            text = text.replace(b"%06d" % stands, b"%06d" % number)
        return text


class Target(Struct, frozen=True):
    """A key: how a call is admitted to it, and where its bucket and its running calls are."""

    admit: Prepared
    bucket: tuple[str, str]
    running: str


class Job(Struct, frozen=True):
    """What one process does: so many admissions, half of them on the first target, the others by Zipf's law."""

    url: str
    number: int
    seed: str
    admissions: int
    targets: Sequence[Target]


Row = tuple[int, int, int, int]
"""target, cost, microseconds, level"""


def admit_many(job: Job) -> tuple[bytes, int]:
    """Every admission as four numbers of eight bytes, and how many calls were refused."""
    chance, wire, rows, refused = random.Random(job.seed), Wire(job.url), array("q"), 0
    weights = zipf(len(job.targets))
    for batch in batches(job.admissions):
        wanted = [one_call(chance, weights) for _ in range(min(BATCH, job.admissions - len(rows) // 4))]
        ids = [f"019a0000-0000-7000-{job.number:04x}-{batch:06x}{i:06x}" for i in range(len(wanted))]
        replies = wire.ask(*bulk(job.targets, wanted, ids))
        for (target, cost), reply in zip(wanted, replies[3:-1:4], strict=True):
            (granted, *_), level = reply
            if granted:
                rows.extend((target, cost, *kept(level)))
            refused += not granted
        if len(rows) // 4 >= job.admissions:
            break
    wire.close()
    return rows.tobytes(), refused


def batches(admissions: int) -> Iterator[int]:
    """Enough of them even if nine of ten calls are refused."""
    return iter(range(10 * (admissions // BATCH + 1)))


def bulk(targets: Sequence[Target], wanted: Sequence[tuple[int, int]], ids: Sequence[str]) -> tuple[list[bytes], int]:
    """Each admission together with a look at its bucket; then the leases are forgotten, which are proved elsewhere."""
    commands, forgotten = [], ["{s00}:leases"]
    for (number, cost), call_id in zip(wanted, ids, strict=True):
        target = targets[number]
        commands += [packed("MULTI"), target.admit.of(call_id, cost), packed("HGET", *target.bucket), packed("EXEC")]
        forgotten += [f"{{s00}}:lease:{call_id}", target.running]
    return [*commands, packed("UNLINK", *forgotten)], 4 * len(wanted) + 1


def one_call(chance: random.Random, weights: Sequence[float]) -> tuple[int, int]:
    """Target and cost."""
    target = 0 if chance.random() < 0.5 else 1 + bisect(weights, chance.random() * weights[-1])
    return target, chance.choice((1, 2, 17, 60, 61, 120, chance.randint(1, 400)))


def zipf(targets: int) -> list[float]:
    """The weights, summed up, of all targets but the first."""
    total, weights = 0.0, []
    for rank in range(1, targets):
        total += 1 / rank
        weights.append(total)
    return weights


def kept(text: bytes) -> tuple[int, int]:
    """Microsecond and level."""
    level, at_us, _ = text.split(b":")
    return int(at_us), int(level)


def send(url: str, commands: Sequence[bytes]) -> list[Any]:
    """All of them, in batches; the replies."""
    wire, replies = Wire(url), []
    for start in range(0, len(commands), BATCH):
        batch = commands[start : start + BATCH]
        replies += wire.ask(batch, len(batch))
    wire.close()
    return replies
