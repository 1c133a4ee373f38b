"""All backends as one: a slot on the best of them, one attempt, and another one elsewhere where that helps."""

from collections.abc import Callable
from types import TracebackType

from msgspec.structs import replace

from gateway.backends.asking import Asker, Asking
from gateway.backends.client import Answer
from gateway.backends.line import Attempt, Line, wanted
from gateway.backends.seats import Seat
from gateway.backends.view import FleetView
from gateway.core import catalogue, names, routing
from gateway.core.breaker import Breaker
from gateway.core.call import Admission, Call, Queued
from gateway.core.catalogue import ModelCard
from gateway.core.fleet import Alias, Node
from gateway.core.placing import LINE_FULL, Foreseen
from gateway.core.retries import RetryBudget
from gateway.core.routing import Backend
from gateway.core.tally import Tally
from gateway.core.usage import Tried
from gateway.errors import BackendUnreachable, GatewayError, NoBackend
from gateway.ports import FleetObserver

ATTEMPTS_MAX = 2
"""of one call: a prompt that kills one runner is offered to one more"""


class Pool:
    """Keeps `ports.Fleet`."""

    def __init__(
        self,
        *,
        view: FleetView,
        line: Line,
        asker: Asker,
        observer: FleetObserver,
        clock_ms: Callable[[], int],
        default_model: str | None = None,
        allow_cloud: bool = False,
    ) -> None:
        self._view = view
        self._line = line
        self._asker = asker
        self._observer = observer
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

    def turns_away(self, call: Call) -> str:
        waits = call.wait_ms_max != 0
        return self.objection(call.model) or (LINE_FULL if waits and self._line.is_full(call.model) else "")

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

    def exchange(
        self, call: Call, admission: Admission, output_tokens_max: int, tally: Tally, told: Callable[[Queued], object]
    ) -> "Answering":
        self._budget.earn()
        attempt = Attempt(
            id=f"{call.id}.{tally.answers}.1",
            call=call,
            weight=admission.weight,
            waited_ms=tally.waited_ms,
            told=told,
            wish=wanted(call),
        )
        return Answering(self, attempt, output_tokens_max, tally)

    async def first_answer(self, attempt: Attempt, output_tokens_max: int, tally: Tally) -> tuple[Asking, Answer]:
        """The answer of the first backend that gives one, and the attempt, to be left."""
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
            asking = self._asker.ask(seat, attempt.call, output_tokens_max, tally)
            try:
                return asking, await asking.__aenter__()
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


class Answering:
    """The answer to a call while it is read, to be entered once."""

    __slots__ = ("_asking", "_attempt", "_output_tokens_max", "_pool", "_tally")

    def __init__(self, pool: Pool, attempt: Attempt, output_tokens_max: int, tally: Tally) -> None:
        self._pool = pool
        self._attempt = attempt
        self._output_tokens_max = output_tokens_max
        self._tally = tally
        self._asking: Asking | None = None

    async def __aenter__(self) -> Answer:
        self._asking, answer = await self._pool.first_answer(self._attempt, self._output_tokens_max, self._tally)
        del self._attempt
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._asking
        await self._asking.__aexit__(kind, error, trace)
