"""What the fake Ollama sends that a good node never would: other headers, other bodies, other counts, resets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.nodes import nodes

LLAMA = "llama3.2:3b"
CHAT = {"model": LLAMA, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
WHOLE = CHAT | {"stream": False}


@pytest.fixture
async def client(fake: FakeOllama) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fake.url, timeout=10) as client:
        yield client


@pytest.mark.parametrize("body", [CHAT, WHOLE])
async def test_headers_beside_the_usual_ones(fake: FakeOllama, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    many = tuple((f"X-{number}", "x") for number in range(100))
    fake.behaviour = Behaviour(headers=(("Set-Cookie", "a=b"), ("Access-Control-Allow-Origin", "*"), *many))
    answer = await client.post("/api/chat", json=body)
    assert (answer.status_code, answer.headers["set-cookie"], answer.headers["x-99"]) == (200, "a=b", "x")
    assert json.loads(answer.text.splitlines()[-1])["done"]
    assert "x-99" not in (await client.get("/api/tags")).headers


async def test_a_redirect(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(status=302, headers=(("Location", "http://127.0.0.1:1/"),))
    answer = await client.post("/api/chat", json=CHAT)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://127.0.0.1:1/")


@pytest.mark.parametrize("body", [CHAT, WHOLE])
async def test_a_body_sent_verbatim(fake: FakeOllama, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    said = bytes(range(256))
    fake.behaviour = Behaviour(body=said.decode("latin-1"), content_type="text/html")
    answer = await client.post("/api/chat", json=body)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, said, "text/html")
    for empty_or_other in Behaviour(body=""), Behaviour(body="", status=502):
        fake.behaviour = empty_or_other
        answer = await client.post("/api/chat", json=body)
        assert (answer.status_code, answer.content) == (empty_or_other.status or 200, b"")


async def test_the_wrong_type_of_a_good_answer(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(content_type="text/html")
    for body in CHAT, WHOLE:
        answer = await client.post("/api/chat", json=body)
        assert answer.headers["content-type"] == "text/html"
        assert json.loads(answer.text.splitlines()[-1])["done"]


@pytest.mark.parametrize(("body", "good"), [(CHAT, 2), (CHAT, 0), (WHOLE, 0)])
async def test_a_line_without_an_end(
    fake: FakeOllama, client: httpx.AsyncClient, body: dict[str, Any], good: int
) -> None:
    fake.behaviour = Behaviour(endless_line_after_tokens=good)
    read = b""
    async with client.stream("POST", "/api/chat", json=body) as answer:
        async for data in answer.aiter_raw():
            read += data
            if len(read) > 2**20:
                break
    *lines, endless = read.split(b"\n")
    assert [json.loads(line)["done"] for line in lines] == [False] * good
    assert json.loads(endless + b'"}}')["message"]["content"].startswith("aaaa")
    await fake.ledger.until_idle()
    assert fake.ledger.left


async def test_lies_in_the_counts(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(counts={"eval_count": -3, "prompt_eval_count": None, "eval_duration": 2**70})
    for body in CHAT, WHOLE:
        said = json.loads((await client.post("/api/chat", json=body)).text.splitlines()[-1])
        assert (said["eval_count"], said["eval_duration"]) == (-3, 2**70)
        assert "prompt_eval_count" not in said
        assert said["done"]


async def test_a_prompt_that_kills(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    deadly = WHOLE | {"messages": [{"role": "user", "content": "please die now"}]}
    await client.post("/api/chat", json=WHOLE)
    fake.behaviour = Behaviour(kills="die")
    with pytest.raises(httpx.TransportError):
        await client.post("/api/chat", json=deadly)
    assert (await client.get("/api/ps")).json() == {"models": []}
    assert (await client.post("/api/chat", json=WHOLE)).status_code == 200
    fake.behaviour = Behaviour(kills="die", kills_with_error=True)
    answer = await client.post("/api/chat", json=deadly)
    assert (answer.status_code, answer.json()["error"][:36]) == (500, "llama-server process has terminated:")
    assert fake.ledger.offers == 2
    assert fake.ledger.loads == {LLAMA: 3 - 1}  # the third would come with the next call


async def test_flapping(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(flap_ms=(60_000, 1))
    assert (await client.get("/api/version")).status_code == 200
    fake.behaviour = Behaviour(flap_ms=(0, 60_000))
    for _ in range(2):  # over the connection that is open, then over a new one
        with pytest.raises(httpx.TransportError):
            await client.get("/api/version")
    await fake.ledger.until(lambda ledger: ledger.resets >= 2)
    fake.behaviour = Behaviour()
    assert (await client.get("/api/version")).status_code == 200


async def test_up_and_down_in_turn(fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(flap_ms=(20, 20))
    seen = [fake.down]
    async with asyncio.timeout(5):
        while len(seen) < 4:
            await asyncio.sleep(0.001)
            if fake.down != seen[-1]:
                seen.append(fake.down)
    assert seen == [False, True, False, True]


async def test_several_nodes_are_looked_at_as_one() -> None:
    async with nodes(3, models={2: ()}, parallel=1, load_ms=1) as fleet, httpx.AsyncClient(timeout=10) as client:
        fleet[0].behaviour = Behaviour(first_byte_ms=60_000, remaining=1)
        slow = asyncio.ensure_future(client.post(f"{fleet.urls[0]}/api/chat", json=CHAT))
        await fleet.until(lambda fleet: fleet.open == 1 and fleet.loads)
        for url in fleet.urls[1:]:
            await client.post(f"{url}/api/chat", json=CHAT)
            await client.get(f"{url}/api/version")
        slow.cancel()
        await fleet.until_idle()
        assert fleet.served == [0, 1, 0]
        assert [one.status for one in fleet[2].ledger.inference] == [404]
        assert (fleet.peaks, fleet.loads, fleet.running(LLAMA)) == ([1, 1, 1], {LLAMA: 2}, [fleet[0], fleet[1]])
        assert fleet.requests == {"/api/chat": 3, "/api/version": 2}
        assert fleet.prompt_tokens == fleet.evaluated_tokens > 0
        assert len(fleet.inference) == 3
        await fleet[1].stop()
        with pytest.raises(httpx.TransportError):
            await client.get(f"{fleet.urls[1]}/api/version")
        await fleet[1].start()
        assert (await client.get(f"{fleet.urls[1]}/api/version")).status_code == 200
        fleet.clear()
        assert (fleet.peak, fleet.requests, len(fleet)) == (0, {}, 3)


async def test_the_sums_are_kept_when_exchanges_are_forgotten(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    await client.post("/api/chat", json=CHAT)
    for _ in range(3):
        await client.get("/api/ps")
    fake.ledger.exchanges.clear()
    counts = (await client.get("/_fake/counts")).json()
    assert counts["paths"] == {"/api/chat": 1, "/api/ps": 3}
    assert (counts["peak"], counts["peaks"], counts["loads"]) == (1, {LLAMA: 1}, {LLAMA: 1})
    assert counts["prompt_tokens"] == counts["evaluated_tokens"] == 24
    assert "requests" not in counts


async def test_who_left_is_not_counted_beside_who_comes_after() -> None:
    """A gateway that closes one call and then begins the next never has two open, however busy the node is."""
    async with nodes(1) as fleet:
        fleet[0].behaviour = Behaviour(hang=True)
        data = json.dumps(CHAT).encode()
        request = b"POST /api/chat HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
        idle = [await asyncio.open_connection("127.0.0.1", fleet[0].port) for _ in range(20)]
        for number, (_, writer) in enumerate(idle, 1):
            writer.write(request)
            await fleet.until(lambda fleet, number=number: len(fleet.inference) == number)
            writer.transport.abort()
            await asyncio.sleep(0)  # the next request leaves right behind
        await fleet.until_idle()
        assert fleet.peak == 1


async def test_who_has_come_and_gone_before_the_node_looked_is_not_counted_beside_who_comes_after() -> None:
    """As above, and the node was too busy to read either of the two in time."""
    async with nodes(1) as fleet:
        fleet[0].behaviour = Behaviour(hang=True)
        data = json.dumps(CHAT).encode()
        request = b"POST /api/chat HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
        socks = []
        for _ in range(10):  # nothing here waits, so the node sees them all at once
            sock = socket.create_connection(("127.0.0.1", fleet[0].port))
            sock.sendall(request)
            socks.append(sock)
            if len(socks) % 2:
                sock.close()
        await fleet.until(lambda fleet: len(fleet.inference) == 10 and fleet.open == 5)
        assert fleet.peak == 5
        for sock in socks:
            sock.close()
        await fleet.until_idle()


async def test_what_is_answered_is_not_counted_beside_what_comes_after() -> None:
    """Once the last byte has left, even before the node has got round to anything else."""
    async with nodes(1) as fleet:
        seen = []
        ledger = fleet[0].ledger
        write = asyncio.StreamWriter.write

        def writes(writer: asyncio.StreamWriter, data: bytes) -> None:
            write(writer, data)
            asyncio.get_running_loop().call_soon(lambda: seen.append((data.endswith(b"0\r\n\r\n"), ledger.open)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.StreamWriter, "write", writes)
            async with httpx.AsyncClient(base_url=fleet[0].url) as client:
                await client.post("/api/chat", json=CHAT | {"stream": True})
        assert [still for last, still in seen if last] == [0]
