"""kill -9 of a replica with streams open: each of its calls still ends in exactly one row."""

import asyncio
import json
import os
import signal
import time

import httpx

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import World, bearer, chat

STREAMS = 5
ROW_WITHIN_S = 30.0


async def test_the_reaper_settles_the_calls_of_a_killed_replica(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        key = await world.create_key(credits=100)
        fake.behaviour = Behaviour(tokens=2_000, tokens_per_s=50)
        victim, url = world.replicas[1]
        begun = [asyncio.Event() for _ in range(STREAMS)]
        clients = [asyncio.create_task(_read_until_cut(world, url, key, event)) for event in begun]
        await asyncio.gather(*(event.wait() for event in begun))
        await victim.kill()
        killed_at = time.monotonic()
        seen = {call_id: tokens for call_id, tokens, _ in await asyncio.gather(*clients)}
        rows = {str(row["id"]): row for row in await world.rows(STREAMS, ROW_WITHIN_S)}
        print(f"rows of {STREAMS} streams {time.monotonic() - killed_at:.1f} s after kill -9")

        assert set(rows) == set(seen)
        for call_id, row in rows.items():
            assert (row["status"], row["estimated"], row["credits_micro"]) == ("replica_lost", True, 1_000_000)
            assert 0 < row["completion_tokens"] <= seen[call_id] + 64
        assert await world.leases() == 0
        usage = await world.usage(key)
        assert usage["monthly_tokens"]["held"] == usage["credits"]["held"] == usage["concurrency"]["now"] == 0
        assert usage["monthly_tokens"]["spent"] == sum(row["total_tokens"] for row in rows.values())


async def _read_until_cut(world: World, url: str, key: str, begun: asyncio.Event) -> tuple[str, int, str]:
    """Read a stream to its end. The call's id, the tokens received and the last line; `begun` after two checkpoints."""
    tokens, last = 0, ""
    async with world.http.stream(
        "POST", f"{url}/v1/chat/completions", headers=bearer(key), json=chat(stream=True)
    ) as reply:
        try:
            async for line in reply.aiter_lines():
                tokens += line.startswith("data: ")
                last = line or last
                if tokens == 150:
                    begun.set()
        except httpx.RemoteProtocolError:
            pass
        return reply.headers["x-request-id"], tokens, last


async def test_a_replica_that_was_taken_for_dead_ends_its_calls_when_it_wakes(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2) as world:
        key = await world.create_key()
        fake.behaviour = Behaviour(tokens=5_000, tokens_per_s=50)
        sleeper, url = world.replicas[1]
        begun = asyncio.Event()
        client = asyncio.create_task(_read_until_cut(world, url, key, begun))
        await begun.wait()
        os.kill(sleeper.pid, signal.SIGSTOP)
        try:
            (row,) = await world.rows(1, ROW_WITHIN_S)
        finally:
            os.kill(sleeper.pid, signal.SIGCONT)
        call_id, _, last = await client
        assert (str(row["id"]), row["status"]) == (call_id, "replica_lost")
        assert '"code":"lease_lost"' in last
        await fake.ledger.until_idle()
        assert len(await world.rows(1)) == 1


async def test_a_client_that_does_not_read_holds_up_no_stop(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2, DRAIN_SECONDS="1") as world:
        key = await world.create_key()
        fake.behaviour = Behaviour(text="x" * 2_000_000)
        victim, url = world.replicas[1]
        body = json.dumps(chat(stream=True)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readexactly(1)
        await fake.ledger.until(lambda ledger: ledger.inference and not ledger.open)
        assert await victim.stop() == 0  # not killed after its time
        writer.transport.abort()
        await world.rows(1)


async def test_a_stopping_replica_finishes_or_cuts_its_streams_and_settles_all(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2, DRAIN_SECONDS="1") as world:
        key = await world.create_key()
        fake.behaviour = Behaviour(tokens=2_000, tokens_per_s=50)
        victim, url = world.replicas[1]
        begun = asyncio.Event()
        client = asyncio.create_task(_read_until_cut(world, url, key, begun))
        await begun.wait()
        assert await victim.stop() == 0
        call_id, tokens, last = await client
        assert '"code":"draining"' in last
        (row,) = await world.rows(1, 5)
        assert str(row["id"]) == call_id
        assert tokens <= row["completion_tokens"] + 1
        assert await world.leases() == 0
