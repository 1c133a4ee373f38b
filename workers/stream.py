"""The usage stream of one shard, read as one consumer of the group `workers`.

An entry stays in the stream, and pending with whoever read it, until it is acknowledged: that is after its row has been
committed. Nothing is ever trimmed by length.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.errors import Unavailable
from gateway.state import keyspace
from gateway.state.functions import Functions
from gateway.state.slots import is_cluster, node_urls
from gateway.telemetry.logs import Log
from workers.batch import Bad, BatchPolicy, BatchSize, Draft, Entry

BLOCK_MS = 1_000
"""Longest wait for a first entry, and so the longest that an idle worker takes to notice that it shall stop."""
CLAIM_IDLE_MS = 30_000
"""Entries that another consumer has held for so long are taken over. Longer than a batch may take; a batch that was
inserted twice all the same makes one row a call."""
RETIRE_IDLE_MS = 3_600_000
BURIED_AT_ONCE = 100
"""entries set aside in one call"""
REDIS_PORT = 6379
FROM_START = "0"

StreamClient = Redis | RedisCluster


def connect(url: str, shards: int, timeout_ms: int) -> StreamClient:
    """A client with a connection a shard for blocking reads, and some more; never retries by itself."""
    waits: dict[str, Any] = {"socket_timeout": timeout_ms / 1000, "socket_connect_timeout": timeout_ms / 1000}
    retry = Retry(NoBackoff(), 0)
    if not is_cluster(url):
        pool = BlockingConnectionPool.from_url(
            url, max_connections=shards + 1, timeout=timeout_ms / 1000, retry=retry, **waits
        )
        return Redis.from_pool(pool)
    first, *others = node_urls(url)
    nodes = [ClusterNode(place.hostname or "", place.port or REDIS_PORT) for place in map(urlsplit, others)]
    # its pools do not wait: a second connection for what is not a read, were all shards at one node
    return RedisCluster.from_url(first, startup_nodes=nodes, max_connections=2 * shards, retry=retry, **waits)


class UsageStream:
    """Every method raises `Unavailable` when Redis does not answer; what was read then stays pending.

    The client's socket time-out must be longer than `BLOCK_MS`.
    """

    def __init__(
        self,
        redis: StreamClient,
        functions: Functions,
        shard: int,
        consumer: str,
        policy: BatchPolicy,
        log: Log,
        *,
        block_ms: int = BLOCK_MS,
        claim_idle_ms: int = CLAIM_IDLE_MS,
    ) -> None:
        self._redis = redis
        self._functions = functions
        self._shard = shard
        self._name = keyspace.usage(shard)
        self._dead = keyspace.usage_dead(shard)
        self._consumer = consumer
        self.size = BatchSize(policy)
        """of the next batch; who stores it says whether that is too much"""
        self._log = log
        self._block_ms = block_ms
        self._claim_idle_ms = claim_idle_ms

    async def ensure_group(self) -> None:
        """Make the stream and the group where they are missing, reading from the very first entry."""
        with _translated():
            try:
                await self._redis.xgroup_create(self._name, keyspace.USAGE_GROUP, id=FROM_START, mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(self) -> list[Entry]:
        """One batch: what this consumer owes, else what others have left behind, else what is new. May be empty."""
        with _translated():
            try:
                return await self._own() or await self._abandoned() or await self._fresh()
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
        await self.ensure_group()  # the first start, or Redis has lost its data
        return []

    async def ack(self, ids: Sequence[bytes]) -> None:
        """Forget entries whose rows are committed. In one MULTI, or a crash between the two would leave orphans."""
        if not ids:
            return
        with _translated():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.xack(self._name, keyspace.USAGE_GROUP, *ids)
            pipeline.xdel(self._name, *ids)
            await pipeline.execute()

    async def set_aside(self, bad: Sequence[Bad]) -> None:
        """Move entries to the dead stream, whole, with the reason and their first id. A full Redis takes them, too."""
        for start in range(0, len(bad), BURIED_AT_ONCE):
            some = bad[start : start + BURIED_AT_ONCE]
            args: list[str | int | bytes] = [keyspace.USAGE_GROUP]
            for one in some:
                body = [part for pair in one.entry.fields.items() for part in pair]
                args += [one.entry.id, one.reason, len(body), *body]
            with _translated():
                await self._functions.call("bury", [self._name, self._dead], args)
        if bad:
            self._log.warning("usage_set_aside", shard=self._shard, reasons=[one.reason for one in bad])

    async def retire(self) -> int:
        """Remove consumers of processes long dead; how many.

        Removing a consumer loses what it holds, so only those that hold nothing and have not even asked for an hour.
        A running worker asks every `BLOCK_MS` and never reuses a name.
        """
        with _translated():
            try:
                consumers = await self._redis.xinfo_consumers(self._name, keyspace.USAGE_GROUP)
            except ResponseError:  # no stream or no group yet
                return 0
            names = [one["name"] for one in consumers if one["pending"] == 0 and one["idle"] > RETIRE_IDLE_MS]
            for name in names:
                await self._redis.xgroup_delconsumer(self._name, keyspace.USAGE_GROUP, name)
        return len(names)

    async def _own(self) -> list[Entry]:
        batch = Draft(self.size.policy)
        start: str | bytes = FROM_START
        while not batch.full and (page := await self._read_group(start, batch.room, None)):
            batch.add(page)
            start = page[-1].id
        return batch.entries

    async def _abandoned(self) -> list[Entry]:
        """Up to one batch of what others have held for too long. A page may be empty though the cursor goes on."""
        batch = Draft(self.size.policy)
        cursor: Any = "0-0"
        while not batch.full:
            cursor, claimed, lost = await self._redis.xautoclaim(
                self._name, keyspace.USAGE_GROUP, self._consumer, self._claim_idle_ms, cursor, count=batch.room
            )
            batch.add(_entries(claimed))
            if lost:  # deleted while pending, which nothing of ours does
                self._log.warning("usage_lost", shard=self._shard, entries=len(lost))
            if cursor == b"0-0":
                break
        return batch.entries

    async def _fresh(self) -> list[Entry]:
        """New entries: waits for the first, then for as many as the policy gives time for, and takes what is there."""
        batch = Draft(self.size.policy)
        more = batch.add(await self._read_group(">", batch.room, self._block_ms))
        began_ms = _now_ms()
        while batch.entries and not batch.full:
            age_ms = _now_ms() - began_ms
            if not more and batch.due(age_ms):
                break
            left_ms = self.size.policy.wait_ms_max - age_ms
            more = batch.add(await self._read_group(">", batch.room, max(1, left_ms)))
        return batch.entries

    async def _read_group(self, start: str | bytes, count: int, block_ms: int | None) -> list[Entry]:
        reply: Any = await self._redis.xreadgroup(
            keyspace.USAGE_GROUP, self._consumer, {self._name: start}, count=count, block=block_ms
        )
        if isinstance(reply, dict):  # RESP3
            return [entry for pages in reply.values() for page in pages for entry in _entries(page)]
        return [entry for _, page in reply or [] for entry in _entries(page)]


def _entries(page: Any) -> list[Entry]:
    return [Entry(entry_id, fields or {}) for entry_id, fields in page]


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@contextmanager
def _translated() -> Iterator[None]:
    """redis-py's exceptions as ours."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable from error
