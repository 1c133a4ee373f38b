"""A fake node with a journal that survives kill -9: every piece of work and every token, in a file, as it happens.

    python -m tests.chaos.node --port 11434 --journal FILE

A line is a JSON list: ["start", process], ["work", id, tag, seconds], ["sent", id, tokens], ["end", id, prompt tokens,
whether all has left]. Ids begin anew with each process.
"""

import argparse
import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import msgspec

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ledger import Exchange, Ledger
from gateway.dev.fake_ollama import FakeOllama, run
from tests.chaos.ledgers import Work

TAG = re.compile(r"\bcall-\d+-\d+\b")
ANSWER_TOKENS = 400
TOKENS_PER_S = 60.0


class JournaledLedger(Ledger):
    """Writes one line at a time, which the kernel keeps whatever becomes of this process."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._write("start", os.getpid())

    def works_for(self, exchange: Exchange, model: str) -> None:
        super().works_for(exchange, model)
        self._write("work", exchange.id, _tag(exchange.body), time.time())

    def sent(self, exchange: Exchange, tokens: int) -> None:
        super().sent(exchange, tokens)
        if tokens and exchange.counted_as:
            self._write("sent", exchange.id, tokens)

    def end(self, exchange: Exchange) -> None:
        first = not exchange.ended
        super().end(exchange)
        if first and exchange.counted_as:
            self._write("end", exchange.id, exchange.prompt_tokens, exchange.completed)

    def _write(self, *line: Any) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def read(node: str, path: Path) -> list[Work]:
    """All work of one node, of all its processes."""
    done: list[Work] = []
    current: dict[int, Work] = {}
    for what, subject, *rest in map(msgspec.json.decode, path.read_bytes().splitlines()):
        if what == "start":
            done += current.values()
            current = {}
        elif what == "work":
            tag, at_s = rest
            current[subject] = Work(node=node, tag=tag, at_s=at_s, closed=False)
        elif what == "sent":
            was = current[subject]
            current[subject] = msgspec.structs.replace(was, tokens_sent=was.tokens_sent + rest[0])
        else:
            prompt, completed = rest
            now = msgspec.structs.replace(current[subject], prompt_tokens=prompt, completed=completed, closed=True)
            current[subject] = now
    return done + list(current.values())


def _tag(body: Any) -> str:
    found = TAG.search(msgspec.json.encode(body).decode())
    return found.group() if found else ""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    fake = FakeOllama(port=options.port)
    fake.ledger = JournaledLedger(options.journal)
    fake.reset()
    fake.behaviour = Behaviour(tokens=ANSWER_TOKENS, tokens_per_s=TOKENS_PER_S)
    asyncio.run(run(fake))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
