"""The functions of Redis over redis-py, for tests that have no pipe."""

from typing import Any

from redis.asyncio import Redis

from gateway.state.functions import Functions


class Commands:
    """As `gateway.state.functions.Calls`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def call(self, *command: Any) -> Any:
        return await self._redis.execute_command(*command)


def functions_of(redis: Redis) -> Functions:
    return Functions(Commands(redis))
