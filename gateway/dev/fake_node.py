"""What a fake node has in mind: behaviour, models, recorded answers to give, ledger; and the control of all this."""

import time
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import structs

from gateway.core.names import canonical
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_generation import Generation, error_body
from gateway.dev.fake_hardware import Hardware
from gateway.dev.fake_http import JSON, NDJSON, Request
from gateway.dev.fake_ledger import Ledger
from gateway.dev.fake_memory import Memory
from gateway.dev.fake_models import MODELS, Model
from gateway.dev.fake_routes import Answer, answer
from gateway.dev.fake_sender import Whole
from gateway.dev.fake_shelf import Shelf

CONTROL = "/_fake/"


class Node:
    """All of a fake node but its server. Tests set `behaviour` and read `ledger` directly."""

    def __init__(self, models: tuple[Model, ...] = MODELS, hardware: Hardware | None = None) -> None:
        self._models = models
        self._hardware = hardware or Hardware()
        self.ledger = Ledger()
        self.reset()

    def reset(self) -> None:
        """As at the start, except that connections, running requests and the hardware stay."""
        self.memory = Memory(self._hardware, self.ledger)
        self.shelf = Shelf(self.memory, self._models)
        self.behaviour = Behaviour()
        self._replays: dict[str, deque[Whole]] = defaultdict(deque)
        self.ledger.clear()

    @property
    def behaviour(self) -> Behaviour:
        """What it does now; `wedged` are the models that are so now, which unloading may have healed."""
        return structs.replace(self._behaviour, wedged=tuple(sorted(self.memory.wedged)))

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._since_s = time.monotonic()
        self.memory.wedged = frozenset(canonical(name) or name for name in behaviour.wedged)

    @property
    def hardware(self) -> Hardware:
        return self._hardware

    @hardware.setter
    def hardware(self, hardware: Hardware) -> None:
        self._hardware = self.memory.hardware = hardware
        self.shelf.version = hardware.version

    @property
    def down(self) -> bool:
        """Whether it is in the lower half of its flapping."""
        if self._behaviour.flap_ms is None:
            return False
        up_ms, down_ms = self._behaviour.flap_ms
        return (time.monotonic() - self._since_s) * 1000 % (up_ms + down_ms) >= up_ms

    def replay(self, path: str, response: Mapping[str, Any]) -> None:
        """The next request for `path` gets this recorded response, with exactly its chunks."""
        headers = {name.lower(): value for name, value in response["headers"]}
        chunks = response.get("chunks")
        whole = Whole(
            status=response["status"],
            content_type=headers.get("content-type", JSON),
            body=response["body"].encode(),
            chunks=None if chunks is None else [chunk.encode() for chunk in chunks],
        )
        self._replays[path].append(whole)

    def decide(self, request: Request) -> tuple[Behaviour, Answer]:
        """How to behave towards a request, and its answer: a recorded one if there is one."""
        behaviour = self._hardware.paced(self._behaviour_for(request.path))
        given = answer(self.shelf, request, behaviour)
        if self._replays[request.path]:
            return behaviour, structs.replace(given, said=self._replays[request.path].popleft())
        if isinstance(given.said, Whole) and 400 <= given.said.status < 500:
            return behaviour, given
        if behaviour.body is not None:
            return behaviour, structs.replace(given, said=_verbatim(given.said, behaviour))
        if behaviour.refusal:
            status, text = behaviour.refusal
            job = given.job if behaviour.load_failure else None
            return behaviour, structs.replace(given, said=Whole(status=status, body=error_body(text)), job=job)
        return behaviour, given

    def _behaviour_for(self, path: str) -> Behaviour:
        """The behaviour for this request, which uses up one of those it is meant for."""
        now = self._behaviour
        if path not in now.paths:
            return Behaviour()
        if now.remaining is not None:
            left = now.remaining - 1
            spent = Behaviour(wedged=now.wedged, flap_ms=now.flap_ms)
            self._behaviour = structs.replace(now, remaining=left) if left > 0 else spent
            return now if left >= 0 else Behaviour()
        return now

    def control(self, request: Request) -> Whole:
        """Do what a request to /_fake/… asks; the answer is the behaviour from now on, or the ledger."""
        what, body = (request.method, request.path.removeprefix(CONTROL)), request.body or b"{}"
        try:
            if what == ("POST", "behaviour"):
                self.behaviour = msgspec.json.decode(body, type=Behaviour)
            elif what == ("PATCH", "behaviour"):
                merged = msgspec.to_builtins(self.behaviour) | msgspec.json.decode(body)
                self.behaviour = msgspec.convert(merged, Behaviour)
            elif what == ("PATCH", "hardware"):
                changed = msgspec.to_builtins(self.hardware) | msgspec.json.decode(body)
                self.hardware = msgspec.convert(changed, Hardware)
                return Whole(body=msgspec.json.encode(self.hardware))
            elif what == ("POST", "replay"):
                given = msgspec.json.decode(body)
                self.replay(given["path"], given["response"])
            elif what == ("POST", "reset"):
                self.reset()
            elif what == ("GET", "ledger"):
                return Whole(body=msgspec.json.encode(self.ledger.snapshot()))
            elif what == ("GET", "counts"):
                return Whole(body=msgspec.json.encode(self.ledger.counts()))
            else:
                return Whole(status=404, body=error_body("no such control"))
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
            return Whole(status=400, body=error_body(f"{type(error).__name__}: {error}"))
        return Whole(body=msgspec.json.encode(self.behaviour))


def _verbatim(good: Whole | Generation, behaviour: Behaviour) -> Whole:
    """The body that was wished for, framed as the good answer would be."""
    body = (behaviour.body or "").encode("latin-1")
    if isinstance(good, Generation) and good.streamed:
        return Whole(status=behaviour.status or 200, content_type=NDJSON, chunks=[body] if body else [])
    return Whole(status=behaviour.status or 200, body=body)
