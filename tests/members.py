"""Keys and teams in every shard, and the parts of the gateway that speak to Redis, on a cluster."""

import random
from collections.abc import Iterator
from typing import Any

from gateway.core import keys
from gateway.core.call import Call
from gateway.core.limits import Limits
from gateway.core.pricing import MICRO, PriceList
from gateway.core.record import Spent, Team
from gateway.state.cluster import ClusterPipe
from gateway.state.directory import KeyDirectory
from gateway.state.failures import Failures
from gateway.state.functions import Functions
from gateway.state.inspector import RedisInspector
from gateway.state.ledger import RedisLedger
from gateway.state.limiter import RedisLimiter
from tests.fakes import PRICES, call, credential_of, record

SHARDS = 16
TIMEOUT_MS = 5_000
LIMITS = Limits(rate_limit_per_min=9, tokens_per_min=10_000, concurrency=5, monthly_token_limit=100_000)


class Gateway:
    """The parts of a replica and of the admin API that speak to Redis."""

    def __init__(self, url: str, timeout_ms: int = TIMEOUT_MS) -> None:
        self.pipe = ClusterPipe(url, timeout_ms)
        functions = Functions(self.pipe)
        self.directory = KeyDirectory(self.pipe, functions, SHARDS)
        self.limiter = RedisLimiter(functions, SHARDS)
        self.failures = Failures(functions, SHARDS, lambda: 0, per_min=2)
        self.inspector = RedisInspector(functions, SHARDS, Failures(functions, SHARDS, lambda: 0, per_min=10**6))
        self.ledger = RedisLedger(self.pipe, SHARDS)

    async def publish(self, members: "list[Member]") -> None:
        await self.directory.publish_prices(PriceList(1, PRICES))
        for member in members:
            await member.publish(self.directory)
        for shard in range(SHARDS):
            assert await self.directory.mark_ready(shard, await self.directory.begin(shard))


class Member:
    """A key, in a team or not, in one shard."""

    def __init__(self, shard: int, chance: random.Random, *, with_team: bool) -> None:
        self.shard = shard
        self.team_id = ""
        if with_team:
            self.team_id = next(one for one in _ids(chance) if keys.shard_of(one, SHARDS) == shard)
            self.key = keys.mint_beside(self.team_id, "llm", chance.randbytes)
        else:
            minted = iter(lambda: keys.mint("llm", chance.randbytes(32)), "")
            self.key = next(one for one in minted if keys.shard_of(keys.id_of(one) or "", SHARDS) == shard)
        self.credential = credential_of(self.key)
        self._number = 1_000 * shard + 500 * with_team

    async def publish(self, directory: KeyDirectory, version: int = 1, **changes: Any) -> None:
        spent = Spent(month="202611", tokens=0)
        if self.team_id:
            team = Team(id=self.team_id, limits=LIMITS, metered=True, granted_micro=4 * MICRO, version=version)
            await directory.publish_team(team, spent)
        fields = {"metered": True, "granted_micro": 9 * MICRO, "team_id": self.team_id or None} | changes
        await directory.publish(record(LIMITS, version=version, key=self.key, **fields), spent)

    def call(self) -> Call:
        self._number += 1
        return call(self._number, credential=self.credential)


def _ids(chance: random.Random) -> Iterator[str]:
    while True:
        yield keys.mint_id(chance.randbytes(32))
