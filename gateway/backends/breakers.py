"""The breakers of all backends, kept in Redis: the table decides, compare-and-set makes it one story for everybody."""

from collections.abc import Callable

from gateway.backends.view import FleetView
from gateway.core.breaker import Breaker, Event, after, ejected
from gateway.core.placing import breaker_name
from gateway.ports import FleetObserver, Placement

TRIES_MAX = 8
"""of one event, when other replicas change the same breaker at the same time"""


class Breakers:
    """`chance` gives a number in [0, 1)."""

    def __init__(
        self, placement: Placement, view: FleetView, observer: FleetObserver, chance: Callable[[], float]
    ) -> None:
        self._placement = placement
        self._view = view
        self._observer = observer
        self._chance = chance

    async def tell(self, backend: str, model: str, event: Event, now_ms: int, was: Breaker | None = None) -> bool:
        """Something happened there; `was`: what Redis has just said the breaker is. Whether it has changed it.

        Raises `LimitsUnavailable`.
        """
        if event == "ok" and was == Breaker():  # nearly always
            return False
        known = self._view.breakers().get(backend, {}).get(model, Breaker()) if was is None else was
        for _ in range(TRIES_MAX):
            to_be = after(known, event, now_ms, self._chance())
            if to_be == known:
                return False
            now_ms, other = await self._placement.judge(breaker_name(backend, model), known, to_be)
            if other is None:
                self._view.judged(backend, model, to_be)
                self._report(backend, model, known, to_be, now_ms)
                return True
            known = other
            self._view.judged(backend, model, known)
        return False

    def _report(self, backend: str, model: str, was: Breaker, now: Breaker, now_ms: int) -> None:
        if ejected(now) and not ejected(was):
            self._observer.ejected(backend, model, (now.until_ms - now_ms) / 1000)
        elif ejected(was) and not ejected(now):
            self._observer.returned(backend, model)
