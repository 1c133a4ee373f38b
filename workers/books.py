"""The books, compared once an hour by one of the workers: Redis' counters, the sums and the rows of this month."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from gateway.admin.report import Report
from gateway.errors import Unavailable
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from workers.turn import Turn

OWNERS_TOLD_MAX = 10
"""in one log line"""
AGAIN_MS = 60_000
"""after a comparison that failed: it may have read much, and fail again"""


class Comparing(Protocol):
    """What `gateway.admin.reconcile.Reconciler` does. Raises `StoreUnavailable` and `LimitsUnavailable`."""

    async def run(self) -> Report: ...


class Books:
    """Changes nothing: what differs is for an operator to look at."""

    def __init__(
        self, reconciler: Comparing, turn: Turn, metrics: WorkerMetrics, log: Log, wall_s: Callable[[], float]
    ) -> None:
        self._reconciler = reconciler
        self._turn = turn
        self._metrics = metrics
        self._log = log
        self._wall_s = wall_s

    async def run_once(self) -> int:
        """How many figures differ; 0 when it is another worker's turn. Raises `Unavailable`: nothing was said."""
        if not await self._turn.take():
            self._metrics.not_compared()
            return 0
        try:
            report = await self._reconciler.run()
        except BaseException:
            with suppress(Unavailable):
                await self._turn.give_up(AGAIN_MS)
            raise
        self._tell(report)
        return report.differing

    def _tell(self, report: Report) -> None:
        kinds: Counter[str] = Counter(one.what for one in report.differences)
        self._metrics.compared(kinds, self._wall_s() if report.complete else None)
        if report.differing:
            owners = list(dict.fromkeys(f"{one.owner.kind} {one.owner.id}" for one in report.differences))
            self._log.warning(
                "reconcile_differs",
                month=report.month,
                figures=report.differing,
                by=dict(kinds),
                owners=owners[:OWNERS_TOLD_MAX],
            )
        if not report.complete:
            self._log.warning("reconcile_incomplete")
