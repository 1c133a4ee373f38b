"""One replica's part of the fleet, on slots in memory and nodes that are scripts; its clock is moved by the test."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
from msgspec import Struct

from gateway.backends.asking import Asker
from gateway.backends.breakers import Breakers
from gateway.backends.client import Answer, OllamaClient
from gateway.backends.line import Attempt, Line, wanted
from gateway.backends.loads import Loads
from gateway.backends.pool import Pool
from gateway.backends.seats import Seats
from gateway.backends.sending import Sending
from gateway.backends.trials import Trials
from gateway.backends.view import FleetView, Listing, State
from gateway.backends.watchdog import Watchdog
from gateway.core.breaker import Breaker
from gateway.core.call import Admission, Call, Levels, Queued
from gateway.core.fleet import Node
from gateway.core.routing import Loaded, Model
from gateway.core.tally import Tally
from gateway.errors import BackendTimeout
from tests.fake_nodes import Answered, said
from tests.fake_placement import FakePlacement
from tests.fakes import MODEL, call

Script = BaseException | asyncio.Event | None
"""what comes instead of an answer, what it waits for, or an answer"""
DEPTH_MAX = 8
WAIT_MS_MAX = 60_000
SILENT_S = 20.0
ADMISSION = Admission(0, 100, Levels())


class FakeFleetObserver:
    """Keeps `ports.FleetObserver` and what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def placed(self, backend: str, model: str, waited_ms: int, *, cached: bool) -> None:
        self.heard.append(("placed", backend))

    def retried(self, code: str) -> None:
        self.heard.append(("retried", code))

    def ejected(self, backend: str, model: str, seconds: float) -> None:
        self.heard.append(("ejected", backend, model))

    def returned(self, backend: str, model: str) -> None:
        self.heard.append(("returned", backend, model))

    def recycled(self, backend: str, model: str) -> None:
        self.heard.append(("recycled", backend, model))

    def of(self, kind: str) -> list[tuple[str, ...]]:
        return [heard[1:] for heard in self.heard if heard[0] == kind]


class _Response(Struct):
    """What is seen of an answer's head here."""

    closed: bool = False

    def close(self) -> None:
        self.closed = True


class FakeClient:
    """What `OllamaClient` is to a pool. Scripts are taken in order, by the node's name; then all is well."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Script]] = defaultdict(list)
        self.sent: list[tuple[str, Sending]] = []
        self.responses: list[_Response] = []

    @property
    def asked(self) -> list[str]:
        return [name for name, _ in self.sent]

    @asynccontextmanager
    async def exchange(
        self, sending: Sending, carry: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> AsyncIterator[Answer]:
        self.sent.append((sending.node.name, sending))
        sending.on_sent()
        try:
            async with asyncio.timeout(None) as deadline:
                sending.expire = lambda: deadline.reschedule(asyncio.get_running_loop().time())
                await carry(self._head(sending.node.name))
                sending.expire = None
                yield cast(Answer, None)
        except TimeoutError:
            raise BackendTimeout from None
        finally:
            sending.expire = None

    async def _head(self, name: str) -> Any:
        script = self.scripts[name].pop(0) if self.scripts[name] else None
        if isinstance(script, BaseException):
            raise script
        if script:
            await script.wait()
        self.responses.append(_Response())
        return self.responses[-1]


class Replica:
    """The parts of a replica, as `backends.fleet` puts them together, of nodes a, b, … with MODEL."""

    def __init__(self, *names: str, slots: int = 1, loaded: bool = True) -> None:
        self.nodes = {name: Node(name=name, url=f"http://{name}", slots=slots) for name in names or ("a", "b")}
        self.placement = FakePlacement(lambda attempt, placed: self.line.woken(attempt, placed))
        self.now_ms = 1_000_000
        self.observer = FakeFleetObserver()
        self.view = FleetView(self.nodes.values())
        self.client = FakeClient()
        self.requests: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], httpx.Response] = lambda request: said()
        self.lookup = Answered(self._answered)
        self.breakers = Breakers(self.placement, self.view, self.observer, lambda: 0.5)
        self.seats = Seats(self.placement, self.view, self.breakers, self.clock_ms)
        self.loads = Loads(self.seats, self.view)
        self.watchdog = Watchdog(
            view=self.view,
            seats=self.seats,
            breakers=self.breakers,
            nodes=self.lookup,
            observer=self.observer,
            clock_ms=self.clock_ms,
            silent_s=SILENT_S,
        )
        self.trials = Trials(
            placement=self.placement,
            view=self.view,
            seats=self.seats,
            breakers=self.breakers,
            watchdog=self.watchdog,
            nodes=self.lookup,
            load_s=60.0,
        )
        self.line = Line(
            self.placement, self.view, self.seats, self.observer, self.clock_ms,
            depth_max=DEPTH_MAX, wait_ms_max=WAIT_MS_MAX,
        )  # fmt: skip
        self.suspected: list[str] = []
        asker = Asker(
            view=self.view,
            seats=self.seats,
            loads=self.loads,
            rests=self.line.rests,
            watchdog=self.watchdog,
            client=cast(OllamaClient, self.client),
            suspect=self.suspected.append,
            clock_ms=self.clock_ms,
        )
        self.pool = Pool(view=self.view, line=self.line, asker=asker, observer=self.observer, clock_ms=self.clock_ms)
        for name in self.nodes:
            self.saw(name, loaded=loaded)

    def clock_ms(self) -> int:
        return self.now_ms

    def tick(self, ms: int) -> None:
        self.now_ms += ms
        self.placement.now_ms += ms

    def saw(self, name: str, *, healthy: bool = True, loaded: bool = True, models: tuple[str, ...] = (MODEL,)) -> None:
        """What a probe of the node has found."""
        kept = {one: Loaded(context_tokens=8_192) for one in models} if loaded else {}
        listing = Listing({one: Model(one, size_bytes=1 << 30) for one in models})
        self.view.saw(name, State(healthy, 0, "0.33.0", kept), listing)

    async def sync(self) -> None:
        """The news."""
        news = await self.placement.sync(self.view.version, self.view.revision, rates=True, turns={})
        self.view.apply(news)

    def breaker(self, name: str, model: str = "*") -> Breaker:
        return self.view.breakers().get(name, {}).get(model, Breaker())

    def attempt(self, number: int = 1, told: Callable[[Queued], object] = lambda _: None, **changes: Any) -> Attempt:
        made = call(number, **changes)
        return Attempt(id=f"c{number}.1", call=made, weight=1, told=told, wish=wanted(made))

    @asynccontextmanager
    async def exchange(self, number: int = 1, **changes: Any) -> AsyncIterator[Tally]:
        """A call that is answered while the block runs."""
        one: Call = call(number, **changes)
        tally = Tally(one)
        tally.admitted(100)
        async with self.pool.exchange(one, ADMISSION, 100, tally, lambda _: None):
            yield tally

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Slots are given back by themselves while the block runs."""
        task = asyncio.create_task(self.seats.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def ask(self, number: int = 1, **changes: Any) -> Tally:
        async with self.exchange(number, **changes) as tally:
            pass
        await self.seats.settle()
        return tally

    def _answered(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer(request)
