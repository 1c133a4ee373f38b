"""The parts of the fleet put together: what one replica needs to know, place, ask and watch its backends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.backends.asking import Asker
from gateway.backends.breakers import Breakers
from gateway.backends.client import OllamaClient
from gateway.backends.fleet_settings import FleetSettings
from gateway.backends.library import Library
from gateway.backends.line import Line
from gateway.backends.loads import Loads
from gateway.backends.lookup import Lookup
from gateway.backends.news import FleetNews
from gateway.backends.pool import Pool
from gateway.backends.prober import Prober
from gateway.backends.seats import Seats
from gateway.backends.shows import Shows
from gateway.backends.trials import Trials
from gateway.backends.view import FleetView
from gateway.backends.watchdog import Watchdog
from gateway.core.routing import Backend
from gateway.errors import LimitsUnavailable
from gateway.ports import FleetObserver, Placement

FIRST_PROBE_S = 2.0
SHOW = "show"
SHOW_MS = 20_000
"""after which a digest nobody knows yet may be asked about again: less than between two lists of a node's models"""


class Fleet:
    """Constructs the parts; opens nothing before `begin`. `clock_ms` is monotonic, `chance` in [0, 1)."""

    def __init__(
        self,
        settings: FleetSettings,
        placement: Placement,
        observer: FleetObserver,
        *,
        clock_ms: Callable[[], int],
        chance: Callable[[], float],
        new_id: Callable[[], str],
        on_change: Callable[[Backend], None],
    ) -> None:
        self._placement = placement
        self._untold: dict[str, bytes] = {}
        """what Redis could not be told yet; by name, so bounded by the nodes"""
        self._client = OllamaClient(settings.patience)
        self._nodes = Lookup()
        self.view = view = FleetView(settings.nodes, version_min=settings.version_min, on_change=on_change)
        breakers = Breakers(placement, view, observer, chance)
        self.seats = seats = Seats(placement, view, breakers, clock_ms)
        self._loads = Loads(seats, view)
        self._shows = Shows(self._nodes)
        self._prober = Prober(
            view=view,
            nodes=self._nodes,
            shows=self._shows,
            publish=self._tell,
            loaded=seats.loaded,
            claim=self._claim,
            allow_cloud=settings.allow_cloud,
        )
        self._watchdog = Watchdog(
            view=view,
            seats=seats,
            breakers=breakers,
            nodes=self._nodes,
            observer=observer,
            clock_ms=clock_ms,
            silent_s=settings.wedge_s,
        )
        trials = Trials(
            placement=placement,
            view=view,
            seats=seats,
            breakers=breakers,
            watchdog=self._watchdog,
            nodes=self._nodes,
            load_s=settings.patience.first_byte_s,
        )
        self._news = FleetNews(
            placement=placement,
            view=view,
            prober=self._prober,
            trials=trials,
            chance=chance,
            new_id=new_id,
            clock_ms=clock_ms,
        )
        self.line = self._line(settings, observer, clock_ms)
        self.pool = self._pool(settings, observer, clock_ms)
        self.library = Library(view, self._shows, self._prober.relist)

    def _pool(self, settings: FleetSettings, observer: FleetObserver, clock_ms: Callable[[], int]) -> Pool:
        asker = Asker(
            view=self.view,
            seats=self.seats,
            loads=self._loads,
            rests=self.line.rests,
            watchdog=self._watchdog,
            client=self._client,
            suspect=self._news.suspect,
            clock_ms=clock_ms,
        )
        return Pool(
            view=self.view,
            line=self.line,
            asker=asker,
            observer=observer,
            clock_ms=clock_ms,
            default_model=settings.default_model,
            allow_cloud=settings.allow_cloud,
        )

    def _line(self, settings: FleetSettings, observer: FleetObserver, clock_ms: Callable[[], int]) -> Line:
        return Line(
            self._placement,
            self.view,
            self.seats,
            observer,
            clock_ms,
            depth_max=settings.depth_max,
            wait_ms_max=settings.wait_ms_max,
        )

    @property
    def loops(self) -> list[Callable[[], Awaitable[None]]]:
        """What has to run as long as the replica does."""
        return [self._news.run, self.seats.run, self.seats.renew, self._watchdog.run]

    async def begin(self) -> None:
        """Know the fleet, so far as that takes no longer than FIRST_PROBE_S: what others have seen, or by asking."""
        with suppress(TimeoutError, LimitsUnavailable):
            async with asyncio.timeout(FIRST_PROBE_S):
                await self._news.read()
        if not all(backend.healthy for backend in self.view.snapshot()):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._prober.probe_all(), FIRST_PROBE_S)

    async def end(self, seconds: float) -> None:
        """Give back every slot, if Redis is there."""
        await self._news.close()
        await self._loads.close()
        with suppress(TimeoutError, LimitsUnavailable):
            async with asyncio.timeout(seconds):
                await self.seats.settle()
        await self._shows.close()
        await self._nodes.close()
        await self._client.close()

    async def _claim(self, digests: set[str]) -> set[str]:
        """While Redis is away, every replica asks for itself."""
        turns = {f"{SHOW} {digest}": SHOW_MS for digest in digests}
        try:
            news = await self._placement.sync(self.view.version, self.view.revision, rates=False, turns=turns)
        except LimitsUnavailable:
            return digests
        return {turn.partition(" ")[2] for turn in news.turns}

    async def _tell(self, told: dict[str, bytes]) -> None:
        """While Redis is away other replicas look for themselves, and hear of it afterwards."""
        self._untold |= told
        if self._untold:
            telling, self._untold = self._untold, {}
            try:
                await self._placement.saw(telling)
            except LimitsUnavailable:
                self._untold = telling | self._untold
