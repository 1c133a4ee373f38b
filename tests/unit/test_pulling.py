"""What a client of a pull hears while nothing happens. The nodes say what the test lets them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from gateway.dialects.native.pull import Progress
from gateway.errors import BackendFault
from gateway.ports import Library
from gateway.web.pulling import WAITING, PullDeps, Pulling

STEPS_MAX = 10


class Node:
    """A library of one node: it says what is put into `steps`, and is done at None."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Progress | None] = asyncio.Queue(STEPS_MAX)

    async def pull(self, backend: str, model: str) -> AsyncGenerator[Progress, None]:
        while step := await self.steps.get():
            yield step


class Client:
    """Takes an answer. `said` are its pieces, decoded; `heard` wakes whoever waits for the next one."""

    def __init__(self) -> None:
        self.said: list[list[dict[str, Any]]] = []
        self._heard = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        if message.get("body"):
            self.said.append([json.loads(line) for line in message["body"].splitlines()])
            self._heard.set()

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    async def piece(self) -> list[dict[str, Any]]:
        """The newest piece, once another one has come."""
        async with asyncio.timeout(10):
            self._heard.clear()
            await self._heard.wait()
        return self.said[-1]


@pytest.fixture
def node() -> Node:
    return Node()


def answering(node: Node, client: Client) -> "asyncio.Task[None]":
    deps = PullDeps(
        library=cast(Library, node), snapshot=list, registries=(), allow_cloud=False, clock_ms=lambda: 0, new_id=str
    )
    return asyncio.create_task(Pulling(deps, "m", ["a:1"], streamed=True).answer({}, client.receive, client.send))


async def test_a_quiet_pull_says_its_last_line_again_and_no_other(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.pulling.QUIET_S", 0.02)
    client = Client()
    answer = answering(node, client)
    assert await client.piece() == [{"backend": "a:1", "status": WAITING}], "before it says anything"
    for status in ("one", "two", "three"):
        node.steps.put_nowait(Progress(status))
    while (heard := await client.piece())[-1]["status"] != "three":
        pass
    assert await client.piece() == await client.piece() == [{"backend": "a:1", "status": "three"}], heard
    node.steps.put_nowait(None)
    await answer
    assert client.said[-1] == [{"done": True, "pulled": ["a:1"], "failed": {}}]


async def test_a_pull_that_is_never_quiet_says_each_line_once(node: Node) -> None:
    client = Client()
    for status in ("one", "two"):
        node.steps.put_nowait(Progress(status))
    node.steps.put_nowait(None)
    await answering(node, client)
    said = [line for piece in client.said for line in piece]
    assert [line.get("status") for line in said] == ["one", "two", None]


async def test_a_pull_that_failed_at_once_says_only_that(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    async def failing(backend: str, model: str) -> AsyncGenerator[Progress, None]:
        raise BackendFault("no")
        yield Progress()

    monkeypatch.setattr(node, "pull", failing)
    client = Client()
    await answering(node, client)
    assert client.said == [[{"done": True, "pulled": [], "failed": {"a:1": "no"}}]]
