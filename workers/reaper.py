"""Leases of the dead: a call whose replica stopped renewing is settled with the last count it had reported.

While Redis is away no replica can renew. So after an outage, and after its own start, the reaper first gives them the
time of a whole lease: a stream that went on meanwhile is settled by its replica, with its true count.
"""

from typing import Protocol

from gateway.errors import TeamElsewhere, Unavailable
from gateway.state import keyspace
from gateway.state.limiter import LEASE_MS
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from workers.clock import Commands, RedisClock
from workers.failpoint import Failpoint, go_on

LEASE_GRACE_MS = 3_000
"""How long past its deadline a lease is left alone, for replicas that are only slow."""
CALLS_MAX = 1_000
"""Calls settled for one shard in one run."""


class Reap(Protocol):
    async def reap(self, shard: int, key_id: str, call_id: str, grace_ms: int) -> bool:
        """Settle the call if its lease is still `grace_ms` past its deadline. Whether it did.

        Takes what is no lease any more from the list of leases. Raises `LimitsUnavailable`.
        """


class Reaper:
    """Any number may run: each call is settled once, by the function in Redis."""

    def __init__(
        self,
        redis: Commands,
        leases: Reap,
        shards: int,
        log: Log,
        *,
        patience_ms: int = LEASE_MS,
        failpoint: Failpoint = go_on,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self._redis = redis
        self._clock = RedisClock(redis)
        self._leases = leases
        self._shards = shards
        self._log = log
        self._patience_ms = patience_ms
        self._failpoint = failpoint
        self._metrics = metrics or WorkerMetrics()
        self._answers_since_ms: int | None = None

    async def run_once(self) -> int:
        """How many calls were settled. Raises `Unavailable` when Redis is away."""
        try:
            if await self._answered_for_ms() < self._patience_ms:
                return 0
            return await self._settle_expired()
        except Unavailable:
            self._answers_since_ms = None
            raise

    async def _answered_for_ms(self) -> int:
        """How long Redis has been answering, as far as this reaper knows."""
        now_ms = await self._clock.now_ms()
        if self._answers_since_ms is None:
            self._answers_since_ms = now_ms
        return now_ms - self._answers_since_ms

    async def _settle_expired(self) -> int:
        settled = 0
        for shard in range(self._shards):
            for key_id, call_id in await self._expired(shard):
                settled += await self._settle(shard, key_id, call_id)
        if settled:
            self._log.warning("leases_reaped", calls=settled)
        return settled

    async def _expired(self, shard: int) -> list[tuple[str, str]]:
        """Key id and call id of the longest expired leases, at most `CALLS_MAX`."""
        until_ms = await self._clock.now_ms() - LEASE_GRACE_MS
        members = await self._redis.call(
            "ZRANGE", keyspace.leases(shard), "-inf", until_ms, "BYSCORE", "LIMIT", 0, CALLS_MAX
        )
        pairs = [member.decode("utf-8", "replace").partition(":") for member in members]
        return [(key_id, call_id) for key_id, _, call_id in pairs]

    async def _settle(self, shard: int, key_id: str, call_id: str) -> bool:
        """One call. A lease that cannot be settled must not keep the others from it."""
        try:
            self._failpoint("before reap")
            settled = await self._leases.reap(shard, key_id, call_id, LEASE_GRACE_MS)
            self._failpoint("after reap")
            self._metrics.reaped.inc(settled)
            return settled
        except TeamElsewhere as error:
            self._log.warning("reap_failed", call=call_id, error=type(error).__name__)
            return False
        except Unavailable:
            raise
        except Exception as error:
            self._log.warning("reap_failed", call=call_id, error=type(error).__name__)
            return False
