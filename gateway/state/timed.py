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
        """of functions, without their library's; as many as there are"""

    async def call(self, *command: Any) -> Any:
        began_s, failed = time.monotonic(), True
        try:
            reply = await self._redis.call(*command)
            failed = False
            return reply
        except LimitsUnavailable:
            raise
        except ResponseError as error:  # of a function a fault; of a command an answer, such as that there is no group
            failed = command[0] == "FCALL" and not is_missing(error)
            raise
        except BaseException:
            failed = time.monotonic() - began_s >= self._patience_s
            raise
        finally:
            self._metrics.redis(self._name(command), time.monotonic() - began_s, failed=failed)

    def _name(self, command: tuple[Any, ...]) -> str:
        if command[0] != "FCALL":
            return str(command[0]).lower()
        function = command[1]
        name = self._names.get(function)
        if name is None:
            name = self._names[function] = function.split("_", 2)[2]
        return name
