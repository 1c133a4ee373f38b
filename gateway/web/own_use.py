"""What a key has used this month, from Postgres: shown where it answers in time, and left out where it does not."""

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Any

from msgspec import Struct

from gateway.admin.usage import OwnUse, UsageReports
from gateway.errors import StoreUnavailable

OWN_USE_S_MAX = 1.0
ASKING_MAX = 256
"""requests that wait for Postgres at once; more are answered without it"""


class Used(Struct, kw_only=True):
    """Sums of calls."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    credits: float
    gpu_seconds: float


class DayUsed(Used, kw_only=True):
    """Sums of the calls of one day, in UTC."""

    day: date


class ModelUsed(Used, kw_only=True):
    """Sums of the calls to one model."""

    model: str


class OwnUses:
    """Asks for what keys have used, never for longer than `OWN_USE_S_MAX`."""

    def __init__(self, reports: UsageReports) -> None:
        self._reports = reports
        self._asking: set[asyncio.Task[OwnUse]] = set()

    @property
    def waiting(self) -> int:
        """Questions that have not ended, also those whose answer nobody waits for."""
        return len(self._asking)

    async def of(self, key_id: str, month: str) -> OwnUse | None:
        """None: Postgres does not answer. A cancelled question may take a while to end, so nobody waits for that."""
        if self.waiting >= ASKING_MAX:
            return None
        asking = asyncio.create_task(self._reports.own(key_id, month))
        self._asking.add(asking)
        asking.add_done_callback(self._ended)
        await asyncio.wait({asking}, timeout=OWN_USE_S_MAX)
        if not asking.done():
            asking.cancel()
            return None
        try:
            return asking.result()
        except StoreUnavailable:
            return None

    def _ended(self, asking: "asyncio.Task[OwnUse]") -> None:
        """Looks at the exception, so that asyncio does not complain of one that nobody saw."""
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()


def by_day(use: OwnUse | None) -> list[DayUsed] | None:
    return None if use is None else [DayUsed(day=row["day"], **_sums(row)) for row in use.by_day]


def by_model(use: OwnUse | None) -> list[ModelUsed] | None:
    return None if use is None else [ModelUsed(model=row["model"], **_sums(row)) for row in use.by_model]


def _sums(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "calls": row["calls"],
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "total_tokens": row["total_tokens"],
        "credits": float(row["credits"]),
        "gpu_seconds": float(row["gpu_seconds"]),
    }
