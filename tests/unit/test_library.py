"""What a pull sends to a node, and answers that are not plain bytes. The node is a socket that says what it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.backends.library import Library
from gateway.backends.view import FleetView
from gateway.core.fleet import Node
from gateway.dialects.native.pull import Progress
from gateway.errors import BackendFault, BackendUnreachable

SUCCESS = b'{"status":"success"}\n'


@asynccontextmanager
async def node(status: str, headers: str, heard: list[str]) -> AsyncIterator[str]:
    """Its name. Answers every request with SUCCESS and these headers; `heard` gets the heads of the requests."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n".encode() + SUCCESS)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def pull(name: str, bearer: str = "") -> list[Progress]:
    async def relist(_: str) -> None:
        """Nothing is listed here."""

    view = FleetView([Node(name=name, url=f"http://{name}", bearer=bearer)])
    library = Library(view, cast(Any, None), relist)
    return [step async for step in library.pull(name, "m")]


async def test_a_pull_sends_our_own_headers_alone() -> None:
    heard: list[str] = []
    async with node("200 OK", "Content-Encoding: identity\r\n", heard) as name:
        assert await pull(name) == [Progress("success")]
    first, *lines = heard[0].strip().split("\r\n")
    assert first == "POST /api/pull HTTP/1.1"
    sent = dict(line.lower().split(": ", 1) for line in lines)
    assert sent.pop("host") == name
    assert sent.pop("content-length")
    assert sent == {"accept": "application/json", "accept-encoding": "identity", "content-type": "application/json"}


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_an_encoded_answer_to_a_pull_is_a_failure(status: str) -> None:
    async with node(status, "Content-Encoding: gzip\r\n", []) as name:
        with pytest.raises(BackendFault, match="encoded"):
            await pull(name)


async def test_a_pull_carries_the_nodes_own_credentials() -> None:
    heard: list[str] = []
    async with node("200 OK", "", heard) as name:
        await pull(name, "secret")
    assert "\r\nauthorization: bearer secret\r\n" in heard[0].lower()


async def test_a_pull_onto_a_node_that_has_gone_is_refused() -> None:
    library = Library(FleetView([]), cast(Any, None), cast(Any, None))
    with pytest.raises(BackendUnreachable):
        await anext(library.pull("gone", "m"))
