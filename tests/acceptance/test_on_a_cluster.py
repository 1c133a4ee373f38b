"""A replica and a worker on a Redis Cluster: calls of keys in many shards become rows, and nothing is left open."""

import asyncio
from pathlib import Path

from gateway.core import keys
from gateway.dev.fake_ollama import FakeOllama
from tests.clusters import EmbeddedCluster
from tests.world import World, bearer, chat, running

SHARDS = 16
KEYS = 24
CALLS_A_KEY = 3


async def test_calls_of_many_shards_become_rows(short_dir: Path, database_url: str, fake: FakeOllama) -> None:
    cluster = EmbeddedCluster(short_dir / "c")
    await cluster.start()
    try:
        world = World(cluster.url, database_url, [fake.url], short_dir, SHARDS=str(SHARDS))
        async with running(world, replicas=2) as world:
            team = (await world.admin("POST", "/admin/teams", json={"label": "all", "credits": 1_000})).json()["id"]
            made = [await world.create_key(credits=10) for _ in range(KEYS)]
            made += [await world.create_key(team_id=team) for _ in range(2)]
            assert len({keys.shard_of(keys.id_of(key) or "", SHARDS) for key in made}) > SHARDS / 2
            calls = [
                world.http.post(
                    f"{world.replicas[number % 2][1]}/v1/chat/completions", headers=bearer(key), json=chat()
                )
                for key in made
                for number in range(CALLS_A_KEY)
            ]
            replies = await asyncio.gather(*calls)
            assert [reply.status_code for reply in replies] == [200] * len(calls)
            rows = await world.rows(len(calls))
            assert {row["api_key_id"] for row in rows} == {keys.id_of(key) for key in made}
            assert {row["team_id"] for row in rows} == {"", team}
            for key in made[:KEYS]:
                credits = (await world.usage(key))["credits"]
                assert (credits["balance"], credits["held"]) == (10 - CALLS_A_KEY, 0)
            assert (await world.usage(made[-1]))["team"]["credits"]["balance"] == 1_000 - 2 * CALLS_A_KEY
            assert await world.leases() == 0
            await world.admin("DELETE", f"/admin/api-keys/{keys.id_of(made[0])}")
            refused = await world.http.post(
                f"{world.replicas[1][1]}/v1/chat/completions", headers=bearer(made[0]), json=chat()
            )
            assert refused.status_code == 401
    finally:
        await cluster.stop()
