"""kill -9 of a replica with streams open: each of its calls still ends in exactly one row."""

import asyncio
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
        seen = dict(await asyncio.gather(*clients))
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


async def _read_until_cut(world: World, url: str, key: str, begun: asyncio.Event) -> tuple[str, int]:
    """Read a stream until its replica dies. The call's id and the tokens received; `begun` after two checkpoints."""
    tokens = 0
    async with world.http.stream(
        "POST", f"{url}/v1/chat/completions", headers=bearer(key), json=chat(stream=True)
    ) as reply:
        try:
            async for line in reply.aiter_lines():
                tokens += line.startswith("data: ")
                if tokens == 150:
                    begun.set()
        except httpx.RemoteProtocolError:
            pass
        return reply.headers["x-request-id"], tokens


async def test_a_stopping_replica_finishes_or_cuts_its_streams_and_settles_all(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=2, DRAIN_SECONDS="1") as world:
        key = await world.create_key()
        fake.behaviour = Behaviour(tokens=2_000, tokens_per_s=50)
        victim, url = world.replicas[1]
        begun = asyncio.Event()
        client = asyncio.create_task(_read_until_cut(world, url, key, begun))
        await begun.wait()
        assert await victim.stop() == 0
        call_id, tokens = await client
        (row,) = await world.rows(1, 5)
        assert str(row["id"]) == call_id
        assert tokens <= row["completion_tokens"] + 1
        assert await world.leases() == 0
