"""One attempt at an answer: one exchange with one backend in one slot, which is given back when it is over."""

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from gateway.backends.client import Answer, OllamaClient
from gateway.backends.loads import Loads
from gateway.backends.rests import Rests
from gateway.backends.seats import GOOD, NEUTRAL, Seat, Seats, Verdict
from gateway.backends.sending import AnyHead, Sending
from gateway.backends.view import FleetView
from gateway.backends.watchdog import Watchdog
from gateway.core.call import Call
from gateway.core.placing import Left
from gateway.core.tally import Tally
from gateway.errors import BackendTimeout, BackendUnreachable, GatewayError, ModelNotFound

NS_PER_MS = 1_000_000


class Asker:
    """Asks backends. `suspect` hears of one that lacks what it was thought to have."""

    def __init__(
        self,
        *,
        view: FleetView,
        seats: Seats,
        loads: Loads,
        rests: Rests,
        watchdog: Watchdog,
        client: OllamaClient,
        suspect: Callable[[str], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._view = view
        self._seats = seats
        self._loads = loads
        self._rests = rests
        self._watchdog = watchdog
        self._client = client
        self._suspect = suspect
        self._clock_ms = clock_ms

    def ask(self, seat: Seat, call: Call, output_tokens_max: int, tally: Tally) -> "Asking":
        """To be entered: that gives the answer, whose head has arrived, or raises as the client's exchange does."""
        return Asking(self, seat, call, output_tokens_max, tally)

    def exchange(self, seat: Seat, call: Call, output_tokens_max: int, tally: Tally) -> Any:
        sending = self._sending(seat, call, output_tokens_max, tally)

        async def carry(posting: Coroutine[Any, Any, AnyHead]) -> AnyHead:
            if seat.loads:
                return await self._loads.carry(seat, posting)
            with self._watchdog.watching(seat, sending, call):
                return await posting

        return self._client.exchange(sending, carry)

    def over(self, seat: Seat, error: BaseException | None, left: Left) -> None:
        """The attempt has ended, with an `error` or well: what that says of the backend, and its slot, go back."""
        verdict = NEUTRAL
        try:
            if error is None:
                verdict = GOOD
                self._rests.served(seat.backend)
            elif isinstance(error, GatewayError):
                verdict = self._judged(seat, error)
                error.elsewhere = error.elsewhere or seat.recycled
        finally:
            if not self._loads.kept(seat):
                self._seats.leave(left, verdict)

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
        again = self._rests.failed(seat.backend, error)
        if isinstance(error, ModelNotFound):
            self._suspect(seat.backend)
        if error.blames == "node" or (again and isinstance(error, BackendUnreachable)):
            return Verdict(node="fault")
        forgiven = seat.recycled or (seat.loads and isinstance(error, BackendTimeout))
        if error.blames == "model" and not forgiven:
            return Verdict(node="ok", pair="fault")
        return NEUTRAL


class Asking:
    """An attempt, to be entered once."""

    __slots__ = ("_asker", "_before", "_call", "_exchange", "_output_tokens_max", "_seat", "_tally")

    def __init__(self, asker: Asker, seat: Seat, call: Call, output_tokens_max: int, tally: Tally) -> None:
        self._asker = asker
        self._seat = seat
        self._call = call
        self._output_tokens_max = output_tokens_max
        self._tally = tally
        self._before = tally.prompt_tokens + tally.completion_tokens
        self._exchange: Any = None

    async def __aenter__(self) -> Answer:
        self._tally.said = None
        try:
            self._exchange = self._asker.exchange(self._seat, self._call, self._output_tokens_max, self._tally)
            answer: Answer = await self._exchange.__aenter__()
            return answer
        except BaseException as error:
            self._over(error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._exchange.__aexit__(kind, error, trace)
        except BaseException as other:  # what the exchange makes of it
            error = other
            raise
        finally:
            self._over(error)

    def _over(self, error: BaseException | None) -> None:
        self._asker.over(self._seat, error, _left(self._seat, self._tally, self._before, good=error is None))


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
