"""A node that is a function, what is known of it, and the prober that asks the one for the other."""

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import httpx

from gateway.backends.prober import Prober
from gateway.backends.shows import Shows
from gateway.backends.view import FleetView
from gateway.core import routing
from gateway.core.fleet import Node as FleetNode
from gateway.core.routing import Backend
from tests.fake_nodes import Answered

NAME, URL = "node:11434", "http://node:11434"
TAG = {
    "name": "Qwen3:8b",
    "digest": "aa",
    "size": 5,
    "modified_at": "2026-08-21T10:00:00.123456789+02:00",
    "details": {"family": "qwen3", "families": None, "parent_model": "/root/.ollama/models/blobs/sha256-aa"},
    "capabilities": ["completion"],
}
SHOW = {
    "capabilities": ["completion", "tools", "thinking"],
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
}


class Node:
    """Answers by path; an Exception is raised, bytes are sent as they are. `asked` counts."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {
            "/api/tags": {"models": [TAG]},
            "/api/ps": {"models": []},
            "/api/version": {"version": "0.33.0"},
            "/api/show": SHOW,
        }
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.encoding: dict[str, str] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked[path] += 1
        self.headers[path] = dict(request.headers)
        said = self.said[path]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, int):
            return httpx.Response(said, json={"error": "no"})
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        headers = {"content-encoding": self.encoding[path]} if path in self.encoding else {}
        return httpx.Response(
            200, headers=headers, stream=httpx.ByteStream(body)
        )  # not `content`, which is read already


class Fleet:
    """One node, what is known of it, and what asks the one for the other."""

    def __init__(self, *, allow_cloud: bool = False, node: FleetNode | None = None) -> None:
        self.node = Node()
        self.view = FleetView([node or FleetNode(name=NAME, url=URL)])
        lookup = Answered(self.node)
        self.shows = Shows(lookup)
        self.told: list[dict[str, bytes]] = []
        self.loaded: list[tuple[str, str]] = []
        self.others: set[str] = set()
        """digests that other replicas ask about"""
        self.prober = Prober(
            view=self.view,
            nodes=lookup,
            shows=self.shows,
            publish=self._publish,
            loaded=lambda name, model: self.loaded.append((name, model)),
            claim=self._claim,
            allow_cloud=allow_cloud,
        )

    async def _claim(self, digests: set[str]) -> set[str]:
        return digests - self.others

    async def _publish(self, told: dict[str, bytes]) -> None:
        if told:
            self.told.append(told)

    @property
    def heard(self) -> list[bool]:
        """Whether it was up, each time that others were told otherwise."""
        said = [
            json.loads(told[f"state:{NAME}"]).get("healthy", False) for told in self.told if f"state:{NAME}" in told
        ]
        return [up for before, up in pairwise([None, *said]) if up != before]

    def objection(self, model: str) -> str:
        return routing.objection(self.view.snapshot(), model)

    async def probe(self, *, afresh: bool = True) -> Backend:
        await self.prober.probe(NAME, afresh=afresh)
        return self.view.snapshot()[0]
