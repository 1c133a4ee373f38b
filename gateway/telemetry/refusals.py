"""Log lines of refused requests: whoever sends a million of them shall not fill a disk with them."""

from collections.abc import Callable

from gateway.core.call import Call
from gateway.errors import (
    AddressNotAllowed,
    CloudBlocked,
    CostExceedsLimit,
    FailuresLimited,
    GatewayError,
    LineFull,
    MeteringBacklog,
    ModelNotFound,
    NoBackend,
    QuotaExceeded,
    RateLimited,
    ScopeMissing,
)
from gateway.telemetry.logs import Log

LINES_PER_S_MAX = 20
OF_A_KEY = (
    AddressNotAllowed,
    CloudBlocked,
    CostExceedsLimit,
    LineFull,
    MeteringBacklog,
    ModelNotFound,
    NoBackend,
    QuotaExceeded,
    RateLimited,
    ScopeMissing,
)
"""what is said to somebody with a valid key alone"""


def knows_key(error: GatewayError) -> bool:
    """Whether admission found the key before it refused the call; what is no known key's id is a stranger's text."""
    return isinstance(error, OF_A_KEY) and not isinstance(error, FailuresLimited)


class RefusalLines:
    """One line each for the first ones of a second; the rest is counted in one that follows. `clock_s` is monotonic."""

    def __init__(self, log: Log, clock_s: Callable[[], float]) -> None:
        self._log = log
        self._clock_s = clock_s
        self._second = 0
        self._said = 0
        self._more = 0

    def add(self, endpoint: str, call_id: str, error: GatewayError, call: Call | None) -> None:
        self.catch_up()
        self._said += 1
        if self._said > LINES_PER_S_MAX:
            self._more += 1
            return
        whose = {"key_id": call.credential.key_id} if call and knows_key(error) else {}
        trace = {"trace_id": call.trace.trace_id} if call and call.trace else {}
        self._log.info(
            "refused", request_id=call_id, endpoint=endpoint, code=error.code, status=error.status, **whose, **trace
        )

    def catch_up(self) -> None:
        """Say how many there were more, once the second is over."""
        second = int(self._clock_s())
        if second == self._second:
            return
        self._second, self._said = second, 0
        if self._more:
            self._log.info("refused_more", requests=self._more)
            self._more = 0
