"""What deploy/runbook.md says to do where Redis has counted other than the rows say: one key's counters made anew."""

import asyncio
from typing import Any

from gateway.core.keys import id_of
from gateway.state import keyspace
from tests.world import POLL_S, ROWS_S, World, bearer, chat

CALLS = 3
TOO_MUCH_MICRO = 5_000_000


async def compared(world: World) -> dict[str, Any]:
    found: dict[str, Any] = (await world.admin("GET", "/admin/reconcile")).json()
    return found


async def call(world: World, key: str) -> None:
    reply = await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key), json=chat())
    reply.raise_for_status()


async def hydrated(world: World) -> None:
    async with asyncio.timeout(ROWS_S):
        while not await world.redis.exists(keyspace.ready(0)):
            await asyncio.sleep(POLL_S)


async def test_counters_of_a_key_are_made_anew_of_its_rows(world: World) -> None:
    key = await world.create_key(credits=100)
    key_id = str(id_of(key))
    names = keyspace.KeyNames(key_id, shards=1)
    for _ in range(CALLS):
        await call(world, key)
    await world.rows(CALLS)
    await world.redis.hincrby(names.account, "charged", TOO_MUCH_MICRO)
    assert [one["what"] for one in (await compared(world))["differences"]] == ["charged"]
    await world.admin("PATCH", f"/admin/api-keys/{key_id}", json={"enabled": False})
    assert await world.redis.zcard(names.running) == 0
    await world.redis.unlink(names.account, keyspace.ready(0))
    await hydrated(world)
    assert (await compared(world))["agrees"]
    await world.admin("PATCH", f"/admin/api-keys/{key_id}", json={"enabled": True})
    await call(world, key)
    await world.rows(CALLS + 1)
    assert (await compared(world))["agrees"]
    assert (await world.usage(key))["credits"]["charged"] == CALLS + 1
