"""What a chaos run's system has written down: what is left to do, rows, sums, counters."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from gateway.state import keyspace
from tests.chaos.crowd import Account
from tests.chaos.ledgers import Row, Sums
from tests.world import World


class Books:
    """Read from outside, as an operator might."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def left(self) -> dict[str, int]:
        """What a system at rest has none of, by its name in Redis."""
        redis, sizes = self._world.redis, {}
        names = dict(zip(("slots", "held", "busy", "places", "waiting", "patience"), _fleet_names(), strict=True))
        for what, name in names.items():
            sizes[what] = await (redis.zcard if what in ("slots", "places", "patience") else redis.hlen)(name)
        sizes["leases"] = await redis.zcard(keyspace.leases(0))
        sizes["stream"] = await redis.xlen(keyspace.usage(0))
        sizes["dead"] = await redis.xlen(keyspace.usage_dead(0))
        pending = await redis.xpending(keyspace.usage(0), keyspace.USAGE_GROUP)
        return sizes | {"pending": pending["pending"]}

    async def rows(self) -> list[Row]:
        connection = await asyncpg.connect(self._world.database_url)
        try:
            return [_row(one) for one in await connection.fetch("SELECT * FROM usage_logs")]
        finally:
            await connection.close()

    async def sums(self) -> list[tuple[str, str, Sums]]:
        """What the sums of hours, days and months come to, by key."""
        connection = await asyncpg.connect(self._world.database_url)
        parts = ("calls", "prompt_tokens", "completion_tokens", "credits_micro", "team_credits_micro")
        totals = ", ".join(f"sum({part})::bigint" for part in parts)
        try:
            found = []
            for table in ("usage_hourly", "usage_daily", "usage_monthly"):
                for key, *sums in await connection.fetch(f"SELECT api_key_id, {totals} FROM {table} GROUP BY 1"):
                    found.append((table, key, Sums(*sums)))
            return found
        finally:
            await connection.close()

    async def spent(self, accounts: Sequence[Account]) -> list[tuple[str, int]]:
        """Tokens of the month by key, as the gateway tells each; nothing may be held any more."""
        found = []
        for account in accounts:
            usage = await self._world.usage(account.secret)
            tokens, credits = usage["monthly_tokens"], usage["credits"] or {"held": 0}
            assert (tokens["held"], credits["held"], usage["concurrency"]["now"]) == (0, 0, 0), usage
            found.append((account.key_id, tokens["spent"]))
        return found


def _fleet_names() -> list[str]:
    wanted = ("slots", "held", "busy", "places", "waiting", "patience")
    known = {name.rpartition(":")[2]: name for name in keyspace.fleet()}
    return [known[one] for one in wanted]


def _row(one: Any) -> Row:
    return Row(
        id=str(one["id"]),
        mark=one["address_hash"],
        key_id=one["api_key_id"],
        team_id=one["team_id"],
        created_s=one["created_at"].timestamp(),
        month=one["month"],
        endpoint=one["endpoint"],
        streamed=one["streamed"],
        end_user=one["end_user"],
        status=one["status"],
        http_status=one["http_status"],
        prompt_tokens=one["prompt_tokens"],
        completion_tokens=one["completion_tokens"],
        estimated=one["estimated"],
        credits_micro=one["credits_micro"],
        team_credits_micro=one["team_credits_micro"],
    )
