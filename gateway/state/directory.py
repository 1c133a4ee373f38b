"""What the replicas read of keys: written by the admin API at once and by the worker's hydrate step to be sure."""

import secrets

from redis.exceptions import ResponseError

from gateway.core.record import KeyRecord, Spent
from gateway.errors import LimitsUnavailable
from gateway.state import keyspace
from gateway.state.functions import Calls, Functions

HYDRATION_S_MAX = 3_600


class KeyDirectory:
    """Keeps `ports.Directory`, and the sentinel that lets an unknown key be called unknown."""

    def __init__(self, redis: Calls, functions: Functions, shards: int) -> None:
        self._redis = redis
        self._functions = functions
        self._shards = shards

    async def publish(self, record: KeyRecord, spent: Spent | None) -> None:
        """Write a key. `spent` counts only where Redis has no figure of its own yet."""
        names = keyspace.KeyNames(record.id, self._shards)
        granted = record.limits.credits_micro
        balance = None if granted is None else max(0, granted - (spent.credits_micro if spent else 0))
        await self._functions.call(
            "publish",
            [names.key, names.account],
            [
                record.version,
                "" if balance is None else balance,
                spent.month if spent else "",
                spent.tokens if spent else "",
                *_fields(record),
            ],
        )

    async def is_ready(self, shard: int) -> bool:
        return bool(await self._redis.call("EXISTS", keyspace.ready(shard)))

    async def incarnation(self) -> str:
        """Which run of the server answers; "" where an access list does not let us ask."""
        try:
            information = await self._redis.call("INFO", "server")
        except ResponseError:
            return ""
        return str(information["run_id"])

    async def begin(self, shard: int) -> str:
        """Put down a mark that is lost with everything else, should Redis lose its data. For `mark_ready`."""
        mark = secrets.token_hex(8)
        await self._redis.call("SET", keyspace.hydrating(shard, mark), "1", "EX", HYDRATION_S_MAX)
        return mark

    async def mark_ready(self, shard: int, mark: str) -> bool:
        """Say that the shard holds every key: from here on an unknown key is told so.

        False, and nothing is said: the data that held `mark` is gone, and the keys published before that with it.
        """
        name = keyspace.ready(shard)
        try:
            await self._redis.call("RENAME", keyspace.hydrating(shard, mark), name)  # one step, so nothing can be lost
        except ResponseError as error:
            if "no such key" not in str(error):
                raise LimitsUnavailable from error
            return False
        await self._redis.call("PERSIST", name)
        return True


def _fields(record: KeyRecord) -> list[str | int]:
    """Field and value in turn, as `known` in prelude.lua reads them; an empty text is no limit."""
    limits = record.limits
    return [
        "digest",
        record.digest,
        "enabled",
        int(record.enabled),
        "expires",
        record.expires_at_ms or 0,
        "rpm",
        limits.requests_per_min,
        "tpm",
        _text(limits.tokens_per_min),
        "concurrency",
        _text(limits.concurrency),
        "monthly",
        _text(limits.monthly_tokens),
        "metered",
        int(limits.credits_micro is not None),
    ]


def _text(limit: int | None) -> str | int:
    return "" if limit is None else limit
