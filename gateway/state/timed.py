"""What every command to Redis takes, told to the metrics: between what asks and the pipe that sends."""

import time
from typing import Any

from redis.exceptions import ResponseError

from gateway.errors import LimitsUnavailable
from gateway.state.functions import Calls, is_missing
from gateway.telemetry.stores import StoreMetrics


class TimedCalls:
    """Sends as `redis` does. A command given up by its caller counts as failed after `patience_s`."""

    def __init__(self, redis: Calls, metrics: StoreMetrics, *, patience_s: float) -> None:
        self._redis = redis
        self._metrics = metrics
        self._patience_s = patience_s
        self._names: dict[str, str] = {}
        """of functions, without their library's, and of commands; as many as there are"""

    async def call(self, *command: Any) -> Any:
        began_s = time.monotonic()
        try:
            reply = await self._redis.call(*command)
        except BaseException as error:
            took_s = time.monotonic() - began_s
            self._metrics.redis(self._name(command), took_s, failed=self._is_failure(command, error, took_s))
            raise
        self._metrics.redis(self._name(command), time.monotonic() - began_s, failed=False)
        return reply

    def _is_failure(self, command: tuple[Any, ...], error: BaseException, took_s: float) -> bool:
        if isinstance(error, LimitsUnavailable):
            return True
        if isinstance(error, ResponseError):  # of a function; of a command it is an answer: that there is no group, say
            return command[0] == "FCALL" and not is_missing(error)
        return took_s >= self._patience_s

    def _name(self, command: tuple[Any, ...]) -> str:
        called = command[1] if command[0] == "FCALL" else command[0]
        name = self._names.get(called)
        if name is None:
            name = called.split("_", 2)[2] if command[0] == "FCALL" else called.lower()
            self._names[called] = name
        return name
