"""Turns: of what one worker does for all of them, each worker asks whether it is the one."""

from gateway.state import keyspace
from workers.clock import Commands

SHARD = 0
NOBODY = "-"


class Turn:
    """One task's turn, by a name in Redis that expires. Raises `LimitsUnavailable`."""

    def __init__(self, redis: Commands, worker: str, turn_ms: int) -> None:
        self._redis = redis
        self._name = keyspace.reconciling(SHARD)
        self._worker = worker
        self._turn_ms = turn_ms

    async def take(self) -> bool:
        """Whether it is this worker's; then it is nobody else's for `turn_ms`."""
        if await self._redis.call("SET", self._name, self._worker, "NX", "PX", self._turn_ms) is not None:
            return True
        return await self._is_ours()  # a command may have been sent twice

    async def give_up(self, rest_ms: int) -> None:
        """It is nobody's for `rest_ms`. Two that run side by side, should it have expired just now, do no harm."""
        if await self._is_ours():
            await self._redis.call("SET", self._name, NOBODY, "PX", rest_ms)

    async def _is_ours(self) -> bool:
        return bool(await self._redis.call("GET", self._name) == self._worker.encode())
