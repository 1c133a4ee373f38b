"""What a fake node has in mind: behaviour, models, recorded answers to give, ledger; and the control of all this."""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import structs

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_generation import Generation, error_body
from gateway.dev.fake_http import JSON, Request
from gateway.dev.fake_ledger import Ledger
from gateway.dev.fake_models import MODELS, Model
from gateway.dev.fake_routes import answer
from gateway.dev.fake_sender import Whole
from gateway.dev.fake_shelf import Shelf

CONTROL = "/_fake/"


class Node:
    """All of a fake node but its server. Tests set `behaviour` and read `ledger` directly."""

    def __init__(self, models: tuple[Model, ...] = MODELS) -> None:
        self._models = models
        self.ledger = Ledger()
        self.reset()

    def reset(self) -> None:
        """As at the start, except that connections and running requests stay."""
        self.behaviour = Behaviour()
        self.shelf = Shelf(self._models)
        self._replays: dict[str, deque[Whole]] = defaultdict(deque)
        self.ledger.clear()

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

    def decide(self, request: Request) -> tuple[Behaviour, dict[str, Any] | None, Whole | Generation]:
        """How to behave towards a request, its decoded body, and the answer: a recorded one if there is one."""
        behaviour = self._behaviour_for(request.path)
        body, said = answer(self.shelf, request, behaviour)
        if self._replays[request.path]:
            said = self._replays[request.path].popleft()
        elif behaviour.refusal and not (isinstance(said, Whole) and 400 <= said.status < 500):
            said = Whole(status=behaviour.refusal[0], body=error_body(behaviour.refusal[1]))
        return behaviour, body, said

    def _behaviour_for(self, path: str) -> Behaviour:
        """The behaviour for this request, which uses up one of those it is meant for."""
        now = self.behaviour
        if path not in now.paths:
            return Behaviour()
        if now.remaining is not None:
            left = now.remaining - 1
            self.behaviour = structs.replace(now, remaining=left) if left > 0 else Behaviour()
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
            elif what == ("POST", "replay"):
                given = msgspec.json.decode(body)
                self.replay(given["path"], given["response"])
            elif what == ("POST", "reset"):
                self.reset()
            elif what == ("GET", "ledger"):
                return Whole(body=msgspec.json.encode(self.ledger.snapshot()))
            else:
                return Whole(status=404, body=error_body("no such control"))
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
            return Whole(status=400, body=error_body(f"{type(error).__name__}: {error}"))
        return Whole(body=msgspec.json.encode(self.behaviour))
