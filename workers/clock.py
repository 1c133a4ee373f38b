"""The one clock that leases and months go by: Redis'. Workers' own clocks decide nothing."""

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, Protocol


class Commands(Protocol):
    """Whatever sends one command to Redis, such as `gateway.state.pipe.Pipe`. Raises `LimitsUnavailable`."""

    def call(self, *command: Any) -> Awaitable[Any]: ...


class RedisClock:
    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def now_ms(self) -> int:
        """Milliseconds since 1970. Raises `LimitsUnavailable`."""
        seconds, microseconds = await self._redis.call("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000


def month_of(ms: int) -> str:
    """The UTC month as YYYYMM, as usage rows name it."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y%m")
