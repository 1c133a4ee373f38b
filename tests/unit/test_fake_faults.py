"""Each fault of the fake Ollama does what it says, and the ledger tells what became of every request."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.dev.fake_answers import generate
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
WHOLE = CHAT | {"stream": False}


@pytest.fixture
async def client(fake: FakeOllama) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fake.url, timeout=10) as client:
        yield client


async def lines_of(client: httpx.AsyncClient, body: dict[str, Any] = CHAT) -> list[bytes]:
    """The lines that arrived, even when the connection broke."""
    read = b""
    try:
        async with client.stream("POST", "/api/chat", json=body) as answer:
            async for data in answer.aiter_raw():
                read += data
    except httpx.TransportError:
        read += b"BROKEN"
    return read.split(b"\n")


@pytest.mark.parametrize(
    ("behaviour", "status", "said"),
    [
        (Behaviour(status=429, error="slow down"), 429, "slow down"),
        (Behaviour(queue_full=True), 503, "server busy, please try again.  maximum pending requests exceeded"),
        (Behaviour(load_failure=True), 500, "llama-server process has terminated: exit status 1: error: failed to "),
    ],
)
async def test_refusing(
    fake: FakeOllama, client: httpx.AsyncClient, behaviour: Behaviour, status: int, said: str
) -> None:
    fake.behaviour = behaviour
    for body in CHAT, WHOLE:
        answer = await client.post("/api/chat", json=body)
        assert answer.status_code == status
        assert answer.json()["error"].startswith(said)
    assert (await client.get("/api/tags")).status_code == 200
    assert [one.status for one in fake.ledger.inference] == [status, status]


async def test_first_byte_and_pace(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(first_byte_ms=60, tokens=10, tokens_per_s=100)
    began = time.monotonic()
    assert len(await lines_of(client)) == 12
    assert 0.14 < time.monotonic() - began < 2
    began = time.monotonic()
    assert (await client.post("/api/chat", json=WHOLE)).json()["eval_count"] == 10
    assert 0.15 < time.monotonic() - began < 2


async def test_remaining_counts_down_to_the_default(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(status=500, remaining=2)
    statuses = [(await client.post("/api/chat", json=CHAT)).status_code for _ in range(4)]
    assert statuses == [500, 500, 200, 200]


@pytest.mark.parametrize("body", [CHAT, WHOLE])
async def test_hanging_until_the_client_leaves(
    fake: FakeOllama, client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    fake.behaviour = Behaviour(hang=True)
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/api/chat", json=body, timeout=0.05)
    await fake.ledger.until(lambda ledger: ledger.left)
    (exchange,) = fake.ledger.left
    assert (exchange.completed, exchange.tokens_sent, fake.ledger.open) == (False, 0, 0)


async def test_hanging_after_some_tokens(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(hang_after_tokens=3)
    async with client.stream("POST", "/api/chat", json=CHAT) as answer:
        await fake.ledger.until(lambda ledger: ledger.exchanges[0].tokens_sent == 3)
        assert answer.status_code == 200
        assert fake.ledger.open == 1
    await fake.ledger.until_idle()
    assert fake.ledger.left[0].tokens_sent == 3


@pytest.mark.parametrize("chunks", [0, 1, 3, 6])
async def test_dropping_after_chunks(fake: FakeOllama, client: httpx.AsyncClient, chunks: int) -> None:
    fake.behaviour = Behaviour(drop_after_chunks=chunks, tokens_per_s=100)
    lines = await lines_of(client)
    assert lines[-1] == b"BROKEN"
    assert len(lines) <= chunks + 1  # RST may overtake what was not read yet
    await fake.ledger.until_idle()
    assert fake.ledger.exchanges[0].dropped


async def test_dropping_in_the_middle_of_a_whole_answer(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(drop_after_chunks=1)
    with pytest.raises(httpx.TransportError):
        await client.post("/api/chat", json=WHOLE)


async def test_garbage(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(garbage=True)
    lines = await lines_of(client)
    assert json.loads(lines[0])["message"]["content"] == "Blue"
    with pytest.raises(ValueError):
        json.loads(lines[1])
    assert json.loads(lines[-2])["done"]
    with pytest.raises(ValueError):
        (await client.post("/api/chat", json=WHOLE)).json()


async def test_trickle(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(trickle=True, trickle_ms=0, text="é")
    async with client.stream("POST", "/api/chat", json=CHAT) as answer:
        pieces = [piece async for piece in answer.aiter_raw()]
    assert all(len(piece) == 1 for piece in pieces) or len(pieces) > 50
    assert json.loads(b"".join(pieces).split(b"\n")[0])["message"]["content"] == "é"
    assert (await client.post("/api/chat", json=WHOLE)).json()["message"]["content"] == "é"


async def test_truncating(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(truncate=True)
    lines = await lines_of(client)
    assert lines[-1] == b""
    assert [json.loads(line)["done"] for line in lines[:-1]] == [False] * 5
    whole = (await client.post("/api/chat", json=WHOLE)).json()
    assert not whole["done"] and "eval_count" not in whole


async def test_an_error_line_in_the_stream(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(error_after_tokens=2)
    *tokens, last, end = await lines_of(client)
    assert (len(tokens), end) == (2, b"")
    assert json.loads(last) == {
        "error": "llama-server chat error: map[code:500 message:Compute error type:server_error]"
    }
    assert (await client.post("/api/chat", json=WHOLE)).status_code == 500


async def test_tool_calls_in_a_line_of_their_own(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    tools = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
    body = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "(TOOL)"}], "tools": tools}
    fake.behaviour = Behaviour(tool_calls_apart=True)
    first, last, _ = await lines_of(client, body)
    assert json.loads(first)["message"]["tool_calls"][0]["function"]["name"] == "now"
    assert not json.loads(first)["done"] and json.loads(last)["done"]
    assert "tool_calls" not in json.loads(last)["message"]


async def test_a_client_that_leaves_is_noticed_at_once(fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(tokens=10_000, tokens_per_s=200)
    for close in "abort", "close", "half-close":
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
        data = json.dumps(CHAT).encode()
        writer.write(b"POST /api/chat HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        await reader.readuntil(b"\n{")
        began = time.monotonic()
        {"abort": writer.transport.abort, "close": writer.close, "half-close": writer.write_eof}[close]()
        await fake.ledger.until_idle()
        assert time.monotonic() - began < 0.5
        assert not fake.ledger.left[-1].backed_up
        writer.close()
    assert len(fake.ledger.left) == 3
    assert fake.ledger.peak == 1
    await fake.ledger.until(lambda ledger: ledger.connections == 0)


async def test_a_client_that_does_not_read_leaves_backed_up(fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(tokens=200_000)
    with socket.create_connection(("127.0.0.1", fake.port)) as sock:
        data = json.dumps(CHAT).encode()
        sock.sendall(b"POST /api/chat HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        await fake.ledger.until(lambda ledger: ledger.exchanges)
        seen = -1
        while fake.ledger.exchanges[0].tokens_sent != seen:  # until the kernel's buffers are full
            seen = fake.ledger.exchanges[0].tokens_sent
            await asyncio.sleep(0.1)
    await fake.ledger.until_idle()
    assert fake.ledger.left[0].backed_up


async def test_the_control_endpoint_and_the_ledger_as_json(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    assert (await client.post("/_fake/behaviour", json={"status": 500})).json()["status"] == 500
    assert (await client.patch("/_fake/behaviour", json={"error": "no"})).json()["error"] == "no"
    assert (await client.post("/_fake/behaviour", json={"stauts": 500})).status_code == 400
    assert (await client.post("/api/chat", json=CHAT, headers={"X-Mine": "1"})).json() == {"error": "no"}
    ledger = (await client.get("/_fake/ledger")).json()
    assert {"received": 1, "open": 0, "peak": 1, "connections": 1}.items() <= ledger.items()
    (request,) = ledger["requests"]
    assert request["headers"]["x-mine"] == "1"
    assert (request["keys"], request["model"], request["status"]) == (["model", "messages"], "llama3.2:3b", 500)
    assert (await client.post("/_fake/reset")).status_code == 200
    assert (await client.get("/_fake/ledger")).json()["requests"] == []
    response = {"status": 418, "headers": [["Content-Type", "text/plain"]], "body": "ab", "chunks": ["a", "b"]}
    await client.post("/_fake/replay", json={"path": "/api/chat", "response": response})
    answer = await client.post("/api/chat", json=CHAT)
    assert (answer.status_code, answer.text) == (418, "ab")
    assert (await client.get("/_fake/nothing")).status_code == 404


async def test_probes_can_fail_too(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(status=500, paths=("/api/tags",))
    assert (await client.get("/api/tags")).status_code == 500
    assert (await client.get("/api/version")).status_code == 200
    assert (await client.head("/")).status_code == 200


def test_on_its_own() -> None:
    argv = [sys.executable, "-m", "gateway.dev.fake_ollama", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            assert httpx.get(f"{url}/api/version").json() == {"version": "0.33.0"}
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


ODD = [
    True,
    {"properties": 5},
    {"enum": 5},
    {"enum": []},
    {"properties": {"a": True}},
    {"type": ["string"]},
    {"x": [1]},
]


@pytest.mark.parametrize("schema", ODD, ids=str)
def test_a_tool_with_an_odd_schema_is_called_all_the_same(schema: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    body = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "(TOOL) hi"}], "tools": tools}
    made = generate("/api/chat", body, thinks=True, text=None, tokens=None)
    (call,) = made.tool_calls
    assert isinstance(call["function"]["arguments"], dict)
