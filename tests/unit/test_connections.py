"""Connections to nodes: which of them serves next, how long they wait, how many there are."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from gateway.backends import connections as connections_module
from gateway.backends.client import OllamaClient
from gateway.backends.connection import Connection
from gateway.backends.connections import Connections
from gateway.backends.reply import Broken
from gateway.backends.sending import HEADS_MAX, Patience, RequestHeads, Sending
from gateway.core.fleet import Node
from gateway.errors import BackendUnreachable, Overloaded
from tests.parsed_answers import FakeTransport
from tests.scripted_node import ScriptedNode, scripted_node

CONNECT_S = 5.0


@pytest.fixture
async def node() -> AsyncIterator[ScriptedNode]:
    async with scripted_node() as one:
        yield one


@pytest.fixture
async def kept() -> AsyncIterator[Connections]:
    one = Connections(CONNECT_S)
    yield one
    one.close()


def at(node: ScriptedNode, **changes: str) -> Node:
    return Node(name="n", **{"url": node.url} | changes)


async def serve(kept: Connections, node: Node, count: int) -> list[Connection]:
    """So many connections that have served, one after the other."""
    open_now = [await kept.connect(node) for _ in range(count)]
    for connection in open_now:
        reply = connection.send(RequestHeads().of(sending(node)), b"")
        await reply.more(1 << 20)
        assert reply.complete
    return open_now


def sending(node: Node) -> Sending:
    return Sending(node=node, path="/api/chat", body=b"", on_sent=lambda: None)


async def test_the_one_that_served_last_serves_next_and_only_its_own_origin(
    kept: Connections, node: ScriptedNode
) -> None:
    served = await serve(kept, at(node), 3)
    origin = (node.url, "")
    assert kept.idle((node.url, "certificates")) is None
    assert kept.idle((node.url + "1", "")) is None
    assert [kept.idle(origin) for _ in range(4)] == [*reversed(served), None]
    assert node.connections == 3


async def test_those_that_wait_too_long_are_closed(
    kept: Connections, node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(connections_module, "SWEEP_S", 0.05)
    await serve(kept, at(node), 3)
    busy = kept.idle((node.url, ""))
    await node.until_left(2)
    assert kept.idle((node.url, "")) is None
    assert busy and busy.is_open


async def test_one_that_waits_makes_room_and_where_none_does_there_is_none(
    kept: Connections, node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "CONNECTIONS_MAX", 2)
    async with scripted_node() as other:
        await serve(kept, at(node), 2)
        first = await kept.connect(at(other))
        await node.until_left(1)
        second = await kept.connect(at(other))
        await node.until_left(2)
        with pytest.raises(Overloaded):
            await kept.connect(at(other))
        first.close()
        assert (await kept.connect(at(other))).is_open
        second.close()
        together = await asyncio.gather(*(kept.connect(at(other)) for _ in range(3)), return_exceptions=True)
        assert sum(isinstance(one, Overloaded) for one in together) == 2, "those being made count"


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(node.url.rpartition(":")[2])
    loop = asyncio.get_running_loop()

    async def found(*_: object, **__: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in ("127.0.0.3", "127.0.0.2", "127.0.0.1")
        ]

    kept = Connections(0.8)
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.2", port))
        full.listen(0)
        for client in (one, two):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        with monkeypatch.context() as patch:
            resolve = loop.getaddrinfo
            patch.setattr(
                loop,
                "getaddrinfo",
                lambda host, *rest, **more: found() if host == "name" else resolve(host, *rest, **more),
            )
            connection = await kept.connect(Node(name="n", url=f"http://name:{port}"))
    assert connection.is_open and node.connections == 1
    kept.close()


async def test_one_that_is_lost_while_it_is_made_is_not_counted(
    kept: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def made(make: Callable[[], Connection], *_: object, **__: object) -> tuple[None, Connection]:
        connection = make()
        connection.connection_made(cast(asyncio.Transport, FakeTransport()))
        connection.connection_lost(None)
        return None, connection

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", made)
    connection = await kept.connect(Node(name="n", url="http://127.0.0.1:1"))
    assert not connection.is_open and not kept._open
    with pytest.raises(Broken):
        connection.send(b"h", b"")


@pytest.mark.parametrize(
    "about",
    [{"bearer": "a\r\nX: y"}, {"bearer": "a\0"}, {"bearer": "ü"}, {"url": "http://a\nb"}, {"url": "http://a b"}],
)
async def test_what_is_no_header_is_not_sent_as_one(node: ScriptedNode, about: dict[str, str]) -> None:
    client = OllamaClient(Patience(1, 1, 1, 1))
    with pytest.raises(BackendUnreachable):
        async with client.exchange(sending(at(node, **about)), _carry):
            pass
    assert node.connections == 0


async def test_a_name_that_no_resolver_takes_is_unreachable() -> None:
    client = OllamaClient(Patience(1, 1, 1, 1))
    with pytest.raises(BackendUnreachable):
        async with client.exchange(sending(Node(name="n", url=f"http://{'a' * 64}.example")), _carry):
            pass


def test_heads_that_are_kept_ready_have_an_end() -> None:
    heads = RequestHeads()
    for number in range(HEADS_MAX + 10):
        one = sending(Node(name="n", url=f"http://n{number}", bearer="b"))
        assert heads.of(one) == heads.of(one)
        assert f"Host: n{number}\r\n".encode() in heads.of(one)
    assert len(heads._begun) <= HEADS_MAX


async def _carry(posting):  # type: ignore[no-untyped-def]
    return await posting
