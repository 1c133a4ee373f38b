"""All backends as one: a slot on the best of them, one attempt, and another one elsewhere where that helps."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from msgspec.structs import replace

from gateway.backends.client import Answer, OllamaClient, Sending
from gateway.backends.line import Attempt, Line, wanted
from gateway.backends.loads import Loads
from gateway.backends.seats import GOOD, NEUTRAL, Seat, Seats, Verdict
from gateway.backends.view import FleetView
from gateway.backends.watchdog import Watchdog
from gateway.core import catalogue, names, routing
from gateway.core.breaker import Breaker
from gateway.core.call import Admission, Call, Queued
from gateway.core.catalogue import ModelCard
from gateway.core.fleet import Alias, Node
from gateway.core.placing import Foreseen, Left
from gateway.core.retries import RetryBudget
from gateway.core.routing import Backend
from gateway.core.tally import Tally
from gateway.core.usage import Tried
from gateway.errors import BackendTimeout, BackendUnreachable, GatewayError, ModelNotFound, NoBackend
from gateway.ports import FleetObserver

ATTEMPTS_MAX = 2
"""of one call: a prompt that kills one runner is offered to one more"""
NS_PER_MS = 1_000_000


class Pool:
    """Keeps `ports.Fleet`."""

    def __init__(
        self,
        *,
        view: FleetView,
        line: Line,
        seats: Seats,
        loads: Loads,
        watchdog: Watchdog,
        client: OllamaClient,
        observer: FleetObserver,
        suspect: Callable[[str], None],
        clock_ms: Callable[[], int],
        default_model: str | None = None,
        allow_cloud: bool = False,
    ) -> None:
        self._view = view
        self._line = line
        self._seats = seats
        self._loads = loads
        self._watchdog = watchdog
        self._client = client
        self._observer = observer
        self._suspect = suspect
        self._clock_ms = clock_ms
        self._default_model = default_model
        self._allow_cloud = allow_cloud
        self._budget = RetryBudget()

    @property
    def settings_names(self) -> frozenset[str]:
        return self._view.settings_names

    def nodes(self) -> list[Node]:
        return self._view.nodes()

    def snapshot(self) -> list[Backend]:
        return self._view.snapshot()

    def breakers(self) -> dict[str, dict[str, Breaker]]:
        return self._view.breakers()

    def objection(self, model: str) -> str:
        if names.is_cloud(model) and not self._allow_cloud:
            return "cloud"
        return routing.objection(self._view.snapshot(), model)

    def models(self) -> list[ModelCard]:
        return catalogue.models(self._view.snapshot())

    def alias(self, name: str) -> Alias | None:
        return self._view.aliases.get(name)

    def aliases(self) -> list[Alias]:
        return list(self._view.aliases.values())

    async def foresee(self, call: Call, weight: int) -> Foreseen:
        return await self._line.foresee(call, weight)

    def default_model(self) -> str | None:
        return self._default_model or routing.default_model(self._view.snapshot())

    @asynccontextmanager
    async def exchange(
        self, call: Call, admission: Admission, output_tokens_max: int, tally: Tally, told: Callable[[Queued], object]
    ) -> AsyncIterator[Answer]:
        self._budget.earn()
        attempt = Attempt(
            id=f"{call.id}.{tally.answers}.1",
            call=call,
            weight=admission.weight,
            waited_ms=tally.waited_ms,
            told=told,
        )
        async with AsyncExitStack() as stack:
            yield await self._first_answer(attempt, output_tokens_max, tally, stack)

    async def _first_answer(
        self, attempt: Attempt, output_tokens_max: int, tally: Tally, stack: AsyncExitStack
    ) -> Answer:
        """The answer of the first backend that gives one."""
        failure: GatewayError | None = None
        lost: Tried | None = None
        for number in range(1, ATTEMPTS_MAX + 1):
            try:
                seat = await self._seat(attempt, tally)
            except NoBackend as error:
                raise failure or error from None
            if lost:
                tally.failed(lost)
            tally.backend = seat.backend
            began_ms = self._clock_ms()
            try:
                return await stack.enter_async_context(self._ask(seat, attempt.call, output_tokens_max, tally))
            except GatewayError as error:
                failure = error
                if not error.elsewhere or number == ATTEMPTS_MAX or not self._budget.spend():
                    raise
                self._observer.retried(error.code)
                lost = Tried(seat.backend, error.code, seat.waited_ms, self._clock_ms() - began_ms)
                tried = self._excluded(seat, error, attempt.call)
                again = f"{attempt.call.id}.{tally.answers}.{number + 1}"
                attempt = replace(attempt, id=again, tried=tried, waited_ms=tally.waited_ms)
        raise failure or NoBackend()

    async def _seat(self, attempt: Attempt, tally: Tally) -> Seat:
        """A slot. The tally has what was waited for it, also if there was none in the end. Raises as `Line.seat`."""
        began_ms = self._clock_ms()
        try:
            return await self._line.seat(attempt)
        finally:
            tally.waited_ms += self._clock_ms() - began_ms

    def _excluded(self, seat: Seat, error: GatewayError, call: Call) -> frozenset[str]:
        """What the next attempt leaves out: the backend that failed. Where there is no other one, it is asked again if
        it could not be reached, for the connection kept from the last call may have been closed meanwhile; and so is
        one whose silent model was unloaded."""
        rest = [backend for backend in self._view.snapshot() if backend.name != seat.backend]
        able = any(not routing.unfit(backend, wanted(call)) for backend in rest)
        again = seat.recycled or (isinstance(error, BackendUnreachable) and not able)
        return frozenset() if again else frozenset((seat.backend,))

    @asynccontextmanager
    async def _ask(self, seat: Seat, call: Call, output_tokens_max: int, tally: Tally) -> AsyncIterator[Answer]:
        """One exchange in one slot, which is given back when it is over, with what it came to."""
        verdict, good, before = NEUTRAL, False, tally.prompt_tokens + tally.completion_tokens
        tally.said = None
        try:
            sending = self._sending(seat, call, output_tokens_max, tally)

            async def carry(posting: Coroutine[Any, Any, aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
                if seat.loads:
                    return await self._loads.carry(seat, posting)
                with self._watchdog.watching(seat, sending, call):
                    return await posting

            async with self._client.exchange(sending, carry) as answer:
                yield answer
            verdict, good = GOOD, True
            self._line.rests.served(seat.backend)
        except GatewayError as error:
            verdict = self._judged(seat, error)
            error.elsewhere = error.elsewhere or seat.recycled
            raise
        finally:
            if not self._loads.kept(seat):
                self._seats.leave(_left(seat, tally, before, good=good), verdict)

    def _sending(self, seat: Seat, call: Call, output_tokens_max: int, tally: Tally) -> Sending:
        """Raises `ModelNotFound` for a node that has gone, or has lost the model, since it was chosen."""
        node, backend = self._view.node(seat.backend), self._view.backend(seat.backend)
        model = backend.models.get(call.model) if backend else None
        if node is None or backend is None or model is None:
            raise ModelNotFound
        seat.context_tokens = call.upstream.context_tokens
        loaded, most = backend.loaded.get(call.model), model.details.context_length
        least = min(seat.context_tokens, most or seat.context_tokens)
        if loaded and not seat.loads and loaded.context_tokens >= least:
            seat.context_tokens = loaded.context_tokens or seat.context_tokens
        body = call.upstream.encode(
            model=model.spelling,
            stream=call.by_line,
            output_tokens_max=output_tokens_max,
            thinks=model.thinks,
            context_tokens=seat.context_tokens,
        )
        return Sending(
            node=node,
            path=call.upstream.path,
            body=body,
            trace=call.trace,
            on_sent=lambda: tally.sent(self._clock_ms()),
        )

    def _judged(self, seat: Seat, error: GatewayError) -> Verdict:
        """What a failure says of the backend. One that answers at all can be reached; a load may take its time. That a
        kept connection was closed is nobody's fault, the first time; what the unloading of a silent model has cured is
        none any more."""
        again = self._line.rests.failed(seat.backend, error)
        if isinstance(error, ModelNotFound):
            self._suspect(seat.backend)
        if error.blames == "node" or (again and isinstance(error, BackendUnreachable)):
            return Verdict(node="fault")
        forgiven = seat.recycled or (seat.loads and isinstance(error, BackendTimeout))
        if error.blames == "model" and not forgiven:
            return Verdict(node="ok", pair="fault")
        return NEUTRAL


def _left(seat: Seat, tally: Tally, before: int, *, good: bool) -> Left:
    """What the attempt came to, in the node's own figures where it gave any. `before`: tokens seen when it began."""
    said, seen = tally.said, tally.prompt_tokens + tally.completion_tokens - before
    if said is None:
        return Left(id=seat.id, tokens=seen)
    return Left(
        id=seat.id,
        tokens=max(said.prompt_tokens + said.completion_tokens, seen),
        prompt_tokens=said.prompt_tokens,
        prompt_ms=said.prompt_ns / NS_PER_MS,
        output_tokens=said.completion_tokens,
        output_ms=said.eval_ns / NS_PER_MS,
        load_ms=said.load_ns / NS_PER_MS,
        good=good,
    )
