"""The leases of this replica's running calls: opened by admission, kept alive, closed by settlement.

While Redis is away a bill waits here and is settled when it is back. A call whose admission got no reply is undone the
same way, for its client was refused. Both are bounded: beyond that the reaper settles from the lease's last count.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from msgspec import Struct

from gateway.core.call import Admission, Bill, Call
from gateway.core.tally import Tally, if_lost
from gateway.core.usage import detail_json
from gateway.cut import Cut
from gateway.errors import GatewayError, KeysNotLoaded, LimitsUnavailable, TeamElsewhere, Unauthorized
from gateway.state.failures import Failures
from gateway.state.limiter import RedisLimiter

RENEW_MS = 5_000
RENEW_TOKENS = 64
ROUND_S = 0.5
ROUND_S_MIN = 0.05
UNSETTLED_CALLS_MAX = 50_000
AT_ONCE_MAX = 256


class _Open(Struct):
    call: Call
    tally: Tally
    cut: Callable[[GatewayError], object]
    renewed_ms: int


class RedisLeases:
    """Keeps `ports.Leases`. `run` must be running while calls are; `clock_ms` is monotonic.

    A decision takes `decision_ms` at most. `on_late` hears of a call that somebody else had settled before this replica
    did.
    """

    def __init__(
        self,
        limiter: RedisLimiter,
        failures: Failures,
        clock_ms: Callable[[], int],
        on_late: Callable[[Call], None],
        *,
        decision_ms: int,
    ) -> None:
        self._limiter = limiter
        self._failures = failures
        self._clock_ms = clock_ms
        self._on_late = on_late
        self._decision_s = decision_ms / 1000
        self._open: dict[str, _Open] = {}
        self._bills: dict[str, tuple[Call, Bill]] = {}
        self._doubtful: dict[str, Call] = {}
        self._hurry = asyncio.Event()

    @property
    def running(self) -> int:
        return len(self._open)

    @property
    def unsettled(self) -> int:
        return len(self._bills) + len(self._doubtful)

    async def open(self, call: Call, tally: Tally, cut: Callable[[GatewayError], object], objection: str) -> Admission:
        try:
            with Cut(self._decision_s) as late:  # however many questions it takes
                admission = await self._admit(call, objection)
            if late.caught:
                raise LimitsUnavailable
        except (KeysNotLoaded, TeamElsewhere):
            raise
        except LimitsUnavailable:
            if self.unsettled < UNSETTLED_CALLS_MAX:
                self._doubtful[call.id] = call
            raise LimitsUnavailable from None
        self._open[call.id] = _Open(call, tally, cut, self._clock_ms())
        return admission

    async def _admit(self, call: Call, objection: str) -> Admission:
        try:
            return await self._limiter.admit(call, objection, detail_json(if_lost(call)))
        except Unauthorized as error:
            raise await self._failures.failed(call.source, error) from None

    def progressed(self, tally: Tally) -> None:
        if tally.completion_tokens - tally.reported_tokens >= RENEW_TOKENS:
            self._hurry.set()

    async def close(self, call: Call, bill: Bill) -> None:
        self._open.pop(call.id, None)
        try:
            if not await self._limiter.settle(call, bill):
                self._on_late(call)
        except LimitsUnavailable:
            if self.unsettled < UNSETTLED_CALLS_MAX:
                self._bills[call.id] = (call, bill)

    async def run(self) -> None:
        """Renew, and settle what could not be settled, for ever."""
        while True:
            await self._renew_due()
            await self.settle_waiting()
            await asyncio.sleep(ROUND_S_MIN)
            with suppress(TimeoutError):  # not wait_for, which may swallow a cancellation
                async with asyncio.timeout(ROUND_S):
                    await self._hurry.wait()
            self._hurry.clear()

    async def flush(self, seconds: float) -> None:
        """Try, for so long at most, to settle all that is owed. `run` must have ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.settle_waiting()
                while self.unsettled:
                    await asyncio.sleep(ROUND_S)
                    await self.settle_waiting()

    async def settle_waiting(self) -> None:
        """One attempt at everything that is owed to Redis."""
        owed = [self._settle_late(call, bill) for call, bill in self._bills.values()]
        owed += [self._void_late(call) for call in self._doubtful.values()]
        await _all(owed)

    async def _settle_late(self, call: Call, bill: Bill) -> None:
        await self._limiter.settle(call, bill)
        self._bills.pop(call.id, None)

    async def _void_late(self, call: Call) -> None:
        await self._limiter.void(call)
        self._doubtful.pop(call.id, None)

    async def _renew_due(self) -> None:
        now = self._clock_ms()
        await _all([self._renew(lease, now) for lease in self._open.values() if _is_due(lease, now)])

    async def _renew(self, lease: _Open, now: int) -> None:
        tally = lease.tally
        tokens = tally.completion_tokens
        lost = await self._limiter.renew(lease.call, tally.prompt_tokens, tokens)
        if lost is None:
            lease.renewed_ms, tally.reported_tokens = now, tokens
        elif lease.call.id in self._open:
            lease.cut(lost())


async def _all(work: list[Coroutine[None, None, None]]) -> None:
    """So many at once that they share pipelines. What fails because Redis is away is tried again in the next round."""
    for start in range(0, len(work), AT_ONCE_MAX):
        results = await asyncio.gather(*work[start : start + AT_ONCE_MAX], return_exceptions=True)
        for error in results:
            if error and not isinstance(error, LimitsUnavailable):
                raise error


def _is_due(lease: _Open, now_ms: int) -> bool:
    fresh = lease.tally.completion_tokens - lease.tally.reported_tokens
    return fresh >= RENEW_TOKENS or now_ms - lease.renewed_ms >= RENEW_MS
