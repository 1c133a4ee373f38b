"""SIGTERM loses no request of a balancer that keeps connections and repeats nothing but what it could not dial."""

import asyncio
import os
import random
import signal
from collections import Counter

import aiohttp

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.raw_requests import Raw
from tests.world import bearer, chat

DRAINS = int(os.environ.get("DRAINS", "3"))
CLIENTS = 24
BALANCER_S = 0.6
KEPT_S = 0.2
"""how long the balancer keeps an idle connection: shorter than BALANCER_SECONDS, as README has it"""
END_S = 60.0


class Balancer:
    """Sends each request to any replica, over kept connections; to another one only where it cannot dial."""

    def __init__(self, key: str) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S)
        self._session = aiohttp.ClientSession(connector=connector, headers=bearer(key))
        self.replicas: list[str] = []
        self.told: Counter[str] = Counter()

    async def ask(self, *, stream: bool) -> None:
        for url in random.sample(self.replicas, len(self.replicas)):
            try:
                async with self._session.post(f"{url}/v1/chat/completions", json=chat(stream=stream)) as reply:
                    body = await reply.read()
                whole = reply.status == 200 and (b"data: [DONE]" in body or b'"finish_reason":"stop"' in body)
                self.told["ok" if whole else f"{reply.status} {body[-200:]!r}"] += 1
                return
            except aiohttp.ClientConnectorError:
                self.told["not dialled"] += 1
            except aiohttp.ClientError as error:
                self.told[repr(error)] += 1
                return
        self.told["nobody there"] += 1

    async def close(self) -> None:
        await self._session.close()


async def test_no_request_is_lost_when_replicas_drain(start: Start, fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(tokens=20, tokens_per_s=200)
    env = {"BALANCER_SECONDS": str(BALANCER_S), "REDIS_TIMEOUT_MS": "5000"}
    async with start([fake.url], replicas=2, **env) as world:
        key = await world.create_key(rate_limit_per_min=None, monthly_token_limit=None)
        balancer = Balancer(key)
        balancer.replicas = [url for _, url in world.replicas]
        over = asyncio.Event()
        clients = [asyncio.create_task(_client(balancer, over)) for _ in range(CLIENTS)]
        for number in range(DRAINS):
            victim, url = world.replicas[number]
            assert await victim.stop(wait_s=END_S) == 0  # it is still one of the balancer's replicas
            balancer.replicas.remove(url)
            another = await world.add_replica()
            await world._ready(*world.replicas[-1])
            balancer.replicas.append(another)
        over.set()
        await asyncio.gather(*clients)
        await balancer.close()
        print(f"\n{DRAINS} drains: {dict(balancer.told)}")
        assert set(balancer.told) <= {"ok", "not dialled"}
        assert balancer.told["ok"] > DRAINS * CLIENTS
        rows = await world.rows(balancer.told["ok"])
        assert {row["status"] for row in rows} == {"ok"}


async def _client(balancer: Balancer, over: asyncio.Event) -> None:
    """Streams, whole answers, and pauses in which its connection may go stale."""
    while not over.is_set():
        await balancer.ask(stream=random.random() < 0.5)
        if random.random() < 0.3:
            await asyncio.sleep(random.uniform(0, 2 * KEPT_S))


async def test_a_draining_replica_goes_on_and_asks_for_no_more_on_a_connection(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], BALANCER_SECONDS="20", DRAIN_SECONDS="20") as world:
        replica, url = world.replicas[0]
        key = await world.create_key()
        kept, unused = Raw(url), await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        assert (await kept.send("GET", "/ready", {}))[0] == 200
        assert kept._streams
        fake.behaviour = Behaviour(tokens=40, tokens_per_s=40)
        async with aiohttp.ClientSession(headers=bearer(key)) as streaming, aiohttp.ClientSession() as waiting:
            path = f"{url}/v1/chat/completions"
            stream = await streaming.post(path, json=chat(stream=True))
            whole = asyncio.create_task(waiting.post(path, json=chat(), headers=bearer(key)))
            await fake.ledger.until(lambda ledger: ledger.open == 2)
            replica._process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            await _drains(kept)
            assert kept._streams is None, "closed, as its answer had said"
            assert (await kept.send("GET", "/health", {}))[0] == 200, "new connections are taken"
            assert b"data: [DONE]" in await stream.read()
            reply = await whole
            assert (reply.status, reply.headers["Connection"]) == (200, "close")
            async with streaming.get(f"{url}/v1/models") as again:
                assert (again.status, again.headers["Connection"]) == (200, "close"), "on the connection of the stream"
            unused[1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await unused[0].readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nconnection: close\r\n" in head
            unused[1].close()
            replica._process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            assert await replica.exited(END_S / 6), "a second signal hurries"
        assert replica.returncode == 0


async def test_a_connection_that_was_just_used_stays_open(start: Start, fake: FakeOllama) -> None:
    """Its stream began before the signal, so that the balancer takes it for one that may be used again."""
    fake.behaviour = Behaviour(tokens=120, tokens_per_s=40)
    async with start([fake.url], replicas=2, BALANCER_SECONDS="2") as world:
        key = await world.create_key()
        replica, url = world.replicas[1]
        async with aiohttp.ClientSession(headers=bearer(key), connector=aiohttp.TCPConnector(limit=1)) as balancer:
            stream = await balancer.post(f"{url}/v1/chat/completions", json=chat(stream=True))
            stopping = asyncio.create_task(replica.stop(wait_s=END_S))
            async with asyncio.timeout(END_S):
                while await _is_let_in(url):
                    pass
            assert not stream.content.at_eof()
            assert b"data: [DONE]" in await stream.read()
            await asyncio.sleep(KEPT_S)  # as a connection is kept for a while
            async with balancer.get(f"{url}/v1/models") as again:
                assert (again.status, again.headers["Connection"]) == (200, "close")
        assert await stopping == 0


async def _is_let_in(url: str) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_a_second_signal_cuts_what_runs_and_settles_it(start: Start, fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(tokens=100_000, tokens_per_s=20)
    async with start([fake.url], replicas=2, BALANCER_SECONDS="300", DRAIN_SECONDS="300") as world:
        key = await world.create_key()
        replica, url = world.replicas[1]
        async with aiohttp.ClientSession(headers=bearer(key)) as client:
            stream = await client.post(f"{url}/v1/chat/completions", json=chat(stream=True))
            await stream.content.readline()
            replica._process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            await _drains(Raw(url))
            replica._process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            assert b'"code":"draining"' in await stream.read()
        assert await replica.exited(END_S)
        assert replica.returncode == 0
        (row,) = await world.rows(1)
        assert row["completion_tokens"] > 0


async def _drains(replica: Raw) -> None:
    async with asyncio.timeout(END_S):
        while (await replica.send("GET", "/ready", {}))[0] != 503:
            pass
