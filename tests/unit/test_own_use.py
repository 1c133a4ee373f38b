"""What a key has used is told where Postgres answers in time; nobody waits longer for it, not even for its end."""

import asyncio
from datetime import date
from typing import Any, cast

import pytest

from gateway.admin.usage import OwnUse, UsageReports
from gateway.errors import StoreUnavailable
from gateway.web import own_use
from gateway.web.own_use import OwnUses

ROW = {"calls": 1, "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "credits": 1.5, "gpu_seconds": 0.25}


class Reports:
    """Answers, fails, or hangs until `released`, also where it is cancelled, as a driver that cleans up does."""

    def __init__(self, answer: OwnUse | Exception | None = None) -> None:
        self.answer = answer
        self.released = asyncio.Event()
        self.ended = 0

    async def own(self, key_id: str, month: str) -> OwnUse:
        assert (key_id, month) == ("key", "202611")
        try:
            if self.answer is None:
                await self.released.wait()
        except asyncio.CancelledError:
            await self.released.wait()
            raise StoreUnavailable from None
        finally:
            self.ended += 1
        if isinstance(self.answer, OwnUse):
            return self.answer
        raise self.answer or StoreUnavailable


def uses(reports: Reports) -> OwnUses:
    return OwnUses(cast(UsageReports, reports))


async def test_it_is_told_where_postgres_answers() -> None:
    use = await uses(Reports(OwnUse([{"day": date(2026, 11, 21), **ROW}], [{"model": "m", **ROW}]))).of("key", "202611")
    (day,), (model,) = own_use.by_day(use) or (), own_use.by_model(use) or ()
    assert (day.day, model.model) == (date(2026, 11, 21), "m")
    assert {name: getattr(day, name) for name in ROW} == ROW == {name: getattr(model, name) for name in ROW}


async def test_it_is_left_out_where_postgres_is_away_and_other_failures_are_not_hidden() -> None:
    assert await uses(Reports(StoreUnavailable())).of("key", "202611") is None
    assert own_use.by_day(None) is own_use.by_model(None) is None
    with pytest.raises(ZeroDivisionError):
        await uses(Reports(ZeroDivisionError())).of("key", "202611")


async def test_a_hanging_postgres_holds_nobody_up_and_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_use, "OWN_USE_S_MAX", 0.01)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    reports = Reports()
    asked = uses(reports)
    assert await asyncio.gather(*(asked.of("key", "202611") for _ in range(2 * own_use.ASKING_MAX))) == [None] * (
        2 * own_use.ASKING_MAX
    )
    assert reports.ended == 0, "nobody has waited for the end of the questions"
    reports.released.set()
    while asked.waiting:
        await asyncio.sleep(0)
    assert reports.ended == own_use.ASKING_MAX
    assert complaints == []
    reports.answer = OwnUse([], [])
    assert await asked.of("key", "202611") == OwnUse([], [])
