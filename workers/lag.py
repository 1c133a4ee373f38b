"""How far the workers are behind: what waits in the streams, as metrics. Every worker looks at all shards."""

from typing import Any

from redis.exceptions import ResponseError

from gateway.state import keyspace
from gateway.telemetry.worker import WorkerMetrics
from workers.clock import Commands, RedisClock


class Lag:
    def __init__(self, redis: Commands, shards: int, metrics: WorkerMetrics) -> None:
        self._redis = redis
        self._clock = RedisClock(redis)
        self._all = range(shards)
        self._metrics = metrics

    async def run_once(self) -> int:
        """How many events wait in all shards. Raises `LimitsUnavailable` when Redis is away."""
        now_ms = await self._clock.now_ms()
        return sum([await self._look(shard, now_ms) for shard in self._all])

    async def oldest_ms(self) -> int | None:
        """Unix milliseconds since when the oldest event of all waits; None: none does. Raises `LimitsUnavailable`."""
        found = [await self._oldest_ms(keyspace.usage(shard)) for shard in self._all]
        return min((ms for ms in found if ms is not None), default=None)

    async def _look(self, shard: int, now_ms: int) -> int:
        stream, dead = keyspace.usage(shard), keyspace.usage_dead(shard)
        events = int(await self._redis.call("XLEN", stream))
        oldest_ms = await self._oldest_ms(stream)
        self._metrics.backlog(
            shard,
            events=events,
            pending=await self._pending(stream),
            lag_s=0.0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000,
            dead=int(await self._redis.call("XLEN", dead)),
            size_bytes=await self._bytes(stream) + await self._bytes(dead),
        )
        return events

    async def _oldest_ms(self, stream: str) -> int | None:
        page = await self._redis.call("XRANGE", stream, "-", "+", "COUNT", 1)
        return _added_ms(page[0][0]) if page else None

    async def _bytes(self, stream: str) -> int:
        """As backlog.lua weighs it."""
        return int(await self._redis.call("MEMORY", "USAGE", stream) or 0)

    async def _pending(self, stream: str) -> int:
        try:
            found: dict[str, Any] = await self._redis.call("XPENDING", stream, keyspace.USAGE_GROUP)
        except ResponseError:  # no stream, or no worker has read it yet
            return 0
        return int(found["pending"])


def _added_ms(entry: bytes) -> int:
    """When Redis added a stream entry, by its id."""
    return int(entry.partition(b"-")[0])
