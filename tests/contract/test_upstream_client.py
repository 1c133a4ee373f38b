"""What the pool may rely on of a client: ours keeps the same promises as one over aiohttp, on either event loop."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.backends import client as lean
from gateway.backends.client import OllamaClient
from gateway.backends.sending import Patience, Sending
from gateway.core.fleet import Node
from gateway.core.trace import Trace
from gateway.errors import (
    BackendBusy,
    BackendFault,
    BackendTimeout,
    BackendUnreachable,
    BadRequest,
    GatewayError,
    ModelNotFound,
    StreamBroken,
)
from tests import aiohttp_client
from tests.aiohttp_client import AiohttpClient
from tests.scripted_node import END, HEAD, ScriptedNode, Step, chunk, scripted_node, sized

PATIENT = Patience(connect_s=5, first_byte_s=10, idle_s=10, total_s=10)
SOON_S = 0.05
PIECES_MAX = 30_000
"""more than are ever read so soon"""
BODY = b'{"model":"m"}'
LINE = b'{"a":1}\n'
WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\n\r\n"
HEAD_OF_9 = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
Posting = Coroutine[Any, Any, Any]


@pytest.fixture(params=[OllamaClient, AiohttpClient], ids=["ours", "aiohttp"])
def made(request: pytest.FixtureRequest) -> Any:
    return request.param


class Scene:
    """A client, and a node that answers as it is told."""

    def __init__(self, client: Any, node: ScriptedNode) -> None:
        self.client = client
        self.node = node
        self.told: list[str] = []
        """"sent" each time that the node was given a request"""

    def sending(self, **changes: Any) -> Sending:
        node = Node(name="n", url=self.node.url)
        one = Sending(node=node, path="/api/chat", body=BODY, on_sent=lambda: self.told.append("sent"))
        return replace(one, **changes)

    async def whole(self, *steps: Step, **changes: Any) -> bytes:
        """The answer to one request, which the node answers so."""
        if steps:
            self.node.answers.append(steps)
        async with self.client.exchange(self.sending(**changes), carry) as answer:
            return bytes(await answer.whole())

    async def pieces(self, *steps: Step) -> list[bytes]:
        if steps:
            self.node.answers.append(steps)
        async with self.client.exchange(self.sending(), carry) as answer:
            return await read(answer)


async def carry(posting: Posting) -> Any:
    return await posting


async def read(answer: Any, take: Callable[[bytes], bool] = lambda piece: False) -> list[bytes]:
    """The pieces that `take` was given."""
    pieces = []

    def taken(piece: bytes) -> bool:
        pieces.append(piece)
        return take(piece)

    await answer.read(taken)
    return pieces


@pytest.fixture
async def enter(made: Any) -> AsyncIterator[Callable[..., Awaitable[Scene]]]:
    async with AsyncExitStack() as stack:

        async def make(tls: ssl.SSLContext | None = None, **patience: float) -> Scene:
            node = await stack.enter_async_context(scripted_node(tls))
            client = made(replace(PATIENT, **patience))
            stack.push_async_callback(client.close)
            return Scene(client, node)

        yield make


@pytest.fixture
async def scene(enter: Callable[..., Awaitable[Scene]]) -> Scene:
    return await enter()


def change(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    for module in (lean, aiohttp_client):
        monkeypatch.setattr(module, name, value)


async def test_a_request_has_our_own_headers_and_the_traces_alone(scene: Scene) -> None:
    trace = Trace(trace_id="1" * 32, span_id="2" * 16, flags=1, state="a=b,c=d")
    node = Node(name="n", url=scene.node.url + "/base", bearer="s3cr3t")
    assert await scene.whole(trace=trace, node=node) == b"{}\n"
    (head, body), *_ = scene.node.requests
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert (first, body) == ("POST /base/api/chat HTTP/1.1", BODY)
    assert {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)} == {
        "host": scene.node.url.removeprefix("http://"),
        "content-type": "application/json",
        "accept": "application/x-ndjson",
        "accept-encoding": "identity",
        "content-length": str(len(BODY)),
        "authorization": "Bearer s3cr3t",
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "tracestate": "a=b,c=d",
    }
    assert scene.told == ["sent"]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
async def test_a_body_of_any_size_arrives(scene: Scene, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert await scene.whole(body=body) == b"{}\n"
    assert scene.node.requests[0][1] == body


@pytest.mark.parametrize(
    "steps",
    [
        [sized(LINE * 3)],
        [HEAD, chunk(LINE), chunk(LINE * 2), END],
        [HEAD + b"18;ext=1\r\n" + LINE * 3 + b"\r\n0\r\nTrailer: x\r\n\r\n"],
        [WITHOUT_LENGTH, LINE, LINE * 2, "close"],
        [OLD + LINE * 3, "close"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + sized(LINE * 3)],
        [bytes((byte,)) for byte in sized(LINE * 3)],
        [bytes((byte,)) for byte in HEAD + chunk(LINE * 3) + END],
    ],
    ids=["sized", "chunks", "extensions", "closed", "1.0", "interim", "bytes", "bytes of chunks"],
)
async def test_answers_of_every_framing_are_read(scene: Scene, steps: Sequence[Step]) -> None:
    assert await scene.whole(*steps) == LINE * 3
    assert b"".join(await scene.pieces(*steps)) == LINE * 3


async def test_what_comes_broken_behind_all_that_was_wanted_is_no_failure(scene: Scene, made: Any) -> None:
    if made is not OllamaClient:  # aiohttp gives nothing of a read that has something broken in it
        return
    scene.node.answers.append([HEAD + chunk(LINE) + b"no size\r\n"])
    async with scene.client.exchange(scene.sending(), carry) as answer:
        assert await read(answer, lambda piece: True) == [LINE]


async def test_an_empty_answer_is_one(scene: Scene) -> None:
    assert await scene.whole(sized(b"")) == b""
    assert await scene.pieces(HEAD + END) == []


async def test_pieces_are_given_as_they_arrive_and_what_came_together_together(scene: Scene) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    scene.node.answers.append([HEAD, chunk(b"a\n"), first, chunk(b"b\n") + chunk(b"c\n"), second, chunk(b"d") + END])
    async with scene.client.exchange(scene.sending(), carry) as answer:
        pieces = await read(answer, lambda piece: bool((first if piece == b"a\n" else second).set()))
    assert pieces == [b"a\n", b"b\nc\n", b"d"]


async def test_a_large_answer_is_whole(scene: Scene) -> None:
    body = b"0123456789abcdef" * 200_000
    assert await scene.whole(sized(body)) == body
    assert b"".join(await scene.pieces(HEAD, *[chunk(body[:99_999])] * 9, END)) == body[:99_999] * 9


async def test_connections_are_used_again(scene: Scene) -> None:
    ends: list[list[Step]] = [[], [sized(LINE)], [HEAD, chunk(LINE), END], [sized(b"", "204 No Content")]]
    ends += [[sized(b'{"error":"x"}', "400 Bad Request")], [sized(b"x", "200 OK", "Content-Encoding: gzip")]]
    for steps in (ends * 3)[:-1]:
        sending = scene.sending()
        scene.node.answers.append(steps or [sized(LINE)])
        try:
            async with scene.client.exchange(sending, carry) as answer:
                await read(answer)
        except GatewayError:
            pass
        assert sending.reused == (len(scene.node.requests) > 1)
    assert scene.node.connections == 1


async def test_as_many_connections_as_exchanges_at_a_time(scene: Scene) -> None:
    async def at_once(count: int) -> None:
        gate = asyncio.Event()
        scene.node.answers.extend([gate, sized(LINE)] for _ in range(count))
        asking = [asyncio.create_task(scene.whole()) for _ in range(count)]
        already = len(scene.node.requests)
        await scene.node.until_asked(already + count)
        gate.set()
        assert await asyncio.gather(*asking) == [LINE] * count

    await at_once(5)
    await at_once(3)
    assert scene.node.connections == 5


@pytest.mark.parametrize(
    "last",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"],
        [b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1"],
        [sized(b"1") + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"],
        [WITHOUT_LENGTH + b"1", "close"],
    ],
    ids=["told to", "1.0", "more than was asked for", "no length"],
)
async def test_connections_that_cannot_be_used_again_are_not(scene: Scene, last: Sequence[Step]) -> None:
    assert await scene.whole(*last) == b"1"
    assert await scene.whole(sized(b"3")) == b"3"
    assert scene.node.connections == 2


async def test_one_that_a_node_closes_while_it_waits_is_not_used_again(scene: Scene) -> None:
    await scene.whole()
    await scene.node.drop_all()
    await asyncio.sleep(0)  # this loop has heard of it
    sending = scene.sending()
    async with scene.client.exchange(sending, carry):
        pass
    assert (sending.reused, scene.node.connections) == (False, 2)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_that_a_used_connection_is_closed_on_a_request_is_nobodys_fault(scene: Scene, end: Step) -> None:
    await scene.whole()
    sending = scene.sending()
    scene.node.answers.append([end])
    with pytest.raises(BackendUnreachable) as caught:
        async with scene.client.exchange(sending, carry):
            pass
    assert (sending.reused, caught.value.blames, caught.value.elsewhere) == (True, "", True)
    assert scene.told == ["sent"] * 2


BEFORE: list[Sequence[Step]] = [
    ["close"],
    ["reset"],
    [b"HTTP/1.1 20", "close"],
    [b"HTTP/1.1 200 OK\r\nContent-", "reset"],
    [b"HTTP/1.1 100 Continue\r\n\r\n", "close"],
    [b"SSH-2.0-x\r\n"],
    [b"\x16\x03\x01\0\0"],
    [b"HTTP/1.1 2000 OK\r\n\r\n"],
    [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
    [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"],
    [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000],
    [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000],
    [b"HTTP/1.1 200 " + b"O" * 1_000_000],
]


@pytest.mark.parametrize("steps", BEFORE, ids=[str(b"".join(filter(bytes.__instancecheck__, s))[:30]) for s in BEFORE])
async def test_no_head_or_none_that_is_http_is_the_nodes_fault(scene: Scene, steps: Sequence[Step]) -> None:
    with pytest.raises(BackendUnreachable) as caught:
        await scene.whole(*steps, "hold")
    assert caught.value.blames == "node"
    if steps[-1] not in ("close", "reset"):
        await scene.node.until_left()


async def test_a_node_that_does_not_listen_is_unreachable(scene: Scene) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for place in (f"127.0.0.1:{nobody.getsockname()[1]}", "no-such-host.invalid"):
            with pytest.raises(BackendUnreachable) as caught:
                await scene.whole(node=Node(name="n", url=f"http://{place}"))
            assert caught.value.blames == "node"
    assert scene.told == []


async def test_a_connection_that_is_reset_at_once_is_unreachable(scene: Scene) -> None:
    for greeting in (["reset"], ["close"]):
        scene.node.greeting = greeting
        with pytest.raises(BackendUnreachable):
            await scene.whole()


@pytest.mark.parametrize(
    "steps",
    [
        [HEAD, "close"],
        [HEAD, "reset"],
        [HEAD, chunk(LINE), "close"],
        [HEAD, chunk(LINE), "reset"],
        [HEAD, chunk(LINE)[:-5], "close"],
        [HEAD_OF_9, b"12345678", "close"],
        [HEAD_OF_9, "reset"],
    ],
)
async def test_a_body_that_ends_before_its_end_is_broken(scene: Scene, steps: Sequence[Step]) -> None:
    began = asyncio.Event()
    for read in (scene.whole, scene.pieces):
        with pytest.raises(StreamBroken) as caught:
            began.clear()
            asking = asyncio.create_task(read(steps[0], began, *steps[1:]))
            await scene.node.until_asked()
            await turns()
            began.set()
            await asking
        assert caught.value.blames == "model"


async def turns() -> None:
    """Long enough for what is on its way on this machine to be read by the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        ("404 Not Found", "model 'x' not found", ModelNotFound),
        ("503 Service Unavailable", "busy", BackendBusy),
        ("400 Bad Request", "option x", BadRequest),
        ("500 Internal Server Error", "boom", BackendFault),
    ],
)
async def test_refusals_are_what_their_body_says(
    scene: Scene, status: str, text: str, error: type[GatewayError]
) -> None:
    body = b'{"error":"%b"}' % text.encode()
    chunked = HEAD.replace(b"200 OK", status.encode())
    for steps in ([sized(body, status)], [chunked, chunk(body[:4]), chunk(body[4:]), END]):
        with pytest.raises(error) as caught:
            await scene.whole(*steps)
        assert error in (ModelNotFound, BackendBusy) or text in caught.value.message
    assert scene.node.connections == 1


async def test_an_endless_refusal_is_read_so_far_and_no_further(scene: Scene) -> None:
    head = HEAD.replace(b"200 OK", b"500 Oops")
    with pytest.raises(BackendFault):
        await scene.whole(head, chunk(b"x" * lean.ERROR_BYTES_MAX), "hold")
    await scene.node.until_left()


async def test_a_refusal_that_breaks_is_a_broken_answer(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.node.answers.append([b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n", gate, "close"])
    asking = asyncio.create_task(scene.whole())
    await scene.node.until_asked()
    await turns()
    gate.set()
    with pytest.raises(StreamBroken):
        await asking


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_redirects_are_not_followed(scene: Scene, status: str) -> None:
    with pytest.raises(BackendFault, match="no reason given"):
        await scene.whole(sized(b"", status, f"Location: {scene.node.url}/elsewhere"))
    assert len(scene.node.requests) == 1


async def test_no_protocol_is_switched(scene: Scene) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nwhatever"
    with pytest.raises(BackendFault, match="no reason given"):
        await scene.whole(switch, "close")
    assert await scene.whole() == b"{}\n"
    assert scene.node.connections == 2


async def test_encoded_answers_are_refused(scene: Scene) -> None:
    for encoding in ("gzip", "br", "GZIP", "deflate, gzip"):
        with pytest.raises(BackendFault, match="encoded"):
            await scene.whole(sized(b"xyz", "200 OK", f"Content-Encoding: {encoding}"))
    assert await scene.whole(sized(b"xyz", "200 OK", "Content-Encoding: identity")) == b"xyz"


async def test_an_answer_that_is_too_large_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "WHOLE_BYTES_MAX", 1_000_000)
    assert len(await scene.whole(sized(b"x" * 1_000_000))) == 1_000_000
    for steps in ([sized(b"x" * 1_000_001)], [HEAD, *[chunk(b"x" * 10_000)] * 101, "hold"]):
        with pytest.raises(BackendFault, match="too large"):
            await scene.whole(*steps)
    await scene.node.until_left()


async def test_time_to_connect(enter: Callable[..., Awaitable[Scene]]) -> None:
    scene = await enter(connect_s=SOON_S)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(BackendUnreachable) as caught:
            await scene.whole(node=Node(name="n", url=f"http://127.0.0.1:{full.getsockname()[1]}"))
    assert caught.value.blames == "node"


async def test_time_to_agree_on_a_cipher_is_time_to_connect(enter: Callable[..., Awaitable[Scene]]) -> None:
    scene = await enter(connect_s=SOON_S)
    scene.node.greeting = ["hold"]
    with pytest.raises(BackendUnreachable) as caught:
        await scene.whole(node=Node(name="n", url=scene.node.url.replace("http", "https")))
    assert caught.value.blames == "node"


async def test_time_to_the_first_byte(enter: Callable[..., Awaitable[Scene]]) -> None:
    scene = await enter(first_byte_s=SOON_S)
    for left, steps in enumerate([["hold"], [b"HTTP/1.1 200", "hold"], [HEAD, chunk(LINE), "hold"]], 1):
        with pytest.raises(BackendTimeout) as caught:
            await scene.whole(*steps)
        assert caught.value.blames == "model"
        await scene.node.until_left(left)
    error = b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n1"
    with pytest.raises(BackendTimeout):
        await scene.whole(error, "hold")


async def test_a_request_may_have_its_own_time_to_the_first_byte(scene: Scene) -> None:
    with pytest.raises(BackendTimeout):
        await scene.whole("hold", first_byte_s=SOON_S)


async def test_time_between_lines(enter: Callable[..., Awaitable[Scene]]) -> None:
    scene = await enter(idle_s=SOON_S)
    scene.node.answers.append([HEAD + chunk(LINE) + chunk(LINE), "hold"])
    seen: list[bytes] = []
    with pytest.raises(BackendTimeout):
        async with scene.client.exchange(scene.sending(), carry) as answer:
            await read(answer, lambda piece: bool(seen.append(piece)))
    assert b"".join(seen) == LINE * 2
    await scene.node.until_left()


@pytest.mark.parametrize(("name", "word"), [("idle_s", b"x"), ("total_s", LINE)])
async def test_a_stream_that_goes_on_is_cut(enter: Callable[..., Awaitable[Scene]], name: str, word: bytes) -> None:
    """Bytes that never make a line are silence; lines are not, but all of them together have their time too."""
    scene = await enter(**{name: SOON_S})
    go_on, seen = asyncio.Semaphore(0), []

    def take(piece: bytes) -> bool:
        seen.append(piece)
        go_on.release()
        return False

    scene.node.answers.append([HEAD, *[chunk(word), go_on] * PIECES_MAX])
    with pytest.raises(BackendTimeout):
        async with scene.client.exchange(scene.sending(), carry) as answer:
            await answer.read(take)
    assert 0 < len(seen) < PIECES_MAX, "it was cut in its midst"


async def test_whoever_expires_a_wait_ends_it(scene: Scene) -> None:
    sending = scene.sending()
    scene.node.answers.append(["hold"])
    asking = asyncio.create_task(scene.client.exchange(sending, carry).__aenter__())
    await scene.node.until_asked()
    assert sending.expire
    sending.expire()
    with pytest.raises(BackendTimeout):
        await asking
    assert sending.expire is None
    assert not asking.cancelled()
    await scene.node.until_left()


async def test_who_is_cancelled_while_time_is_over_is_cancelled(scene: Scene) -> None:
    sending = scene.sending()
    scene.node.answers.append(["hold"])
    asking = asyncio.create_task(scene.client.exchange(sending, carry).__aenter__())
    await scene.node.until_asked()
    assert sending.expire
    asking.cancel()
    sending.expire()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await scene.node.until_left()


async def test_a_request_may_outlive_who_waits_for_it(enter: Callable[..., Awaitable[Scene]]) -> None:
    scene = await enter(first_byte_s=SOON_S)
    gate = asyncio.Event()
    scene.node.answers.append([gate, HEAD, chunk(LINE), "hold"])
    posts: list[asyncio.Task[Any]] = []

    async def shielded(posting: Posting) -> Any:
        posts.append(asyncio.create_task(posting))
        return await asyncio.shield(posts[0])

    with pytest.raises(BackendTimeout):
        async with scene.client.exchange(scene.sending(), shielded):
            pass
    gate.set()
    (await posts[0]).close()
    await scene.node.until_left()


async def test_a_request_nobody_wants_is_closed_when_it_is_cancelled(scene: Scene) -> None:
    for left, steps in enumerate([["hold"], [HEAD, chunk(LINE), "hold"]], 1):
        scene.node.answers.append(steps)
        asking = asyncio.create_task(scene.whole())
        await scene.node.until_asked(left)
        await turns()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await scene.node.until_left(left)


async def test_leaving_early_closes_the_connection(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "TAIL_S", 600)  # which is for those that stay
    scene.node.answers.extend([[HEAD, chunk(LINE), "hold"]] * 2)
    with pytest.raises(ZeroDivisionError):
        async with scene.client.exchange(scene.sending(), carry) as answer:
            await read(answer, lambda piece: bool(1 / 0))
    await scene.node.until_left(1)
    async with scene.client.exchange(scene.sending(), carry) as answer:
        await read(answer, lambda piece: True)
        answer.leave()
    await scene.node.until_left(2)


async def test_the_end_of_an_answer_is_waited_for_so_that_its_connection_serves_again(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.node.answers.append([HEAD, chunk(LINE), gate, chunk(b"and more"), END])
    async with scene.client.exchange(scene.sending(), carry) as answer:
        assert await read(answer, lambda piece: True) == [LINE]
        gate.set()
    await turns()
    assert await scene.whole(sized(b"next")) == b"next"
    assert scene.node.connections == 1


async def test_it_is_not_waited_for_longer_than_a_moment(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "TAIL_S", SOON_S)
    scene.node.answers.append([HEAD, chunk(LINE), "hold"])
    async with scene.client.exchange(scene.sending(), carry) as answer:
        await read(answer, lambda piece: True)
    await scene.node.until_left()


async def test_closing_the_client_closes_all_it_has(scene: Scene, made: Any) -> None:
    await asyncio.gather(*(scene.whole() for _ in range(3)))
    if made is OllamaClient:  # aiohttp lets those wait that read
        scene.node.answers.append([HEAD, "hold"])
        asking = asyncio.create_task(scene.whole())
        await scene.node.until_asked(4)
        await turns()
        await scene.client.close()
        with pytest.raises(StreamBroken):
            await asking
    await scene.client.close()
    await scene.node.until_left(scene.node.connections)


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl here")
async def test_a_nodes_own_certificate_is_trusted_where_it_is_given(
    enter: Callable[..., Awaitable[Scene]], tmp_path: Path
) -> None:
    names = "subjectAltName=DNS:localhost"
    tls, pem = certified(tmp_path, names)
    scene = await enter(tls)
    here = scene.node.url.replace("127.0.0.1", "localhost")
    node = Node(name="n", url=here, ca_pem=pem)
    body = b"x" * 1_000_000
    for _ in range(3):
        assert await scene.whole(sized(body), node=node, body=body) == body
    assert scene.node.connections == 1
    for stranger in (replace(node, ca_pem=""), replace(node, url=scene.node.url)):  # nobody's, and another name
        with pytest.raises(BackendUnreachable) as caught:
            await scene.whole(node=stranger)
        assert caught.value.blames == "node"


def certified(directory: Path, names: str) -> tuple[ssl.SSLContext, str]:
    """What a server with a certificate for those names needs, and the certificate, which is its own authority."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    # fmt: off
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=node", "-addext", names, "-out", str(certificate), "-keyout", str(key)],
        check=True, capture_output=True,
    )
    # fmt: on
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context, certificate.read_text()
