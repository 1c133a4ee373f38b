"""START HERE. The life of a call: admit -> place -> relay -> settle.

    admit   one Redis call checks the key and every limit and reserves what the call may take, or refuses it
    place   the best backend gets the request; the next best, if that helps before the first byte
    relay   the answer is read as fast as it comes, counted, and turned into the client's dialect
    settle  one Redis call charges what was really used and writes the usage event; once, whatever happened

`run` is a task of its own, owned by `Running`, not by the client's connection: a client that leaves, or a server that
cancels its handlers, ends the relay but never the settling.
"""

from collections.abc import Callable

import anyio

from gateway.core.call import Admission, Call, Trip
from gateway.core.tally import Tally
from gateway.dialects import ollama
from gateway.dialects.asked import Renderer
from gateway.dialects.frames import Lines
from gateway.errors import CallAbandoned, GatewayError, StreamBroken
from gateway.outbox import Outbox
from gateway.ports import Exchange, Fleet, Leases, Observer


class Pipeline:
    """Runs calls. `clock_ms` is monotonic."""

    def __init__(self, leases: Leases, fleet: Fleet, clock_ms: Callable[[], int], observer: Observer) -> None:
        self._leases = leases
        self._fleet = fleet
        self._clock_ms = clock_ms
        self._observer = observer

    async def run(self, call: Call, renderer: Renderer, out: Outbox) -> None:
        """Everything from admission to settlement. Never raises: what goes wrong is told to client and bill."""
        tally = Tally(call)
        try:
            out.admission = await self._leases.open(call, tally, out.cut, self._fleet.objection(call.model))
        except GatewayError as refusal:
            out.refuse(refusal)
            return
        tally.admitted(out.admission.output_tokens_max)
        failure: GatewayError | None = None
        with anyio.CancelScope() as relaying:
            out.stops_with(relaying.cancel)
            try:
                await self._relay(call, out.admission, renderer, tally, out)
            except GatewayError as error:
                failure = error
            except Exception as error:  # a bug of ours must not keep the lease open for ever
                self._observer.surprised(call, error)
                failure = GatewayError()
        if relaying.cancelled_caught:
            failure = out.reason or CallAbandoned()
        if failure and out.last is None:
            tally.ended(failure.code, failure.status)
        bill = tally.bill(self._clock_ms())
        await self._leases.close(call, bill)
        _finish(out, renderer, failure)
        self._observer.ended(call, bill)

    async def _relay(self, call: Call, admission: Admission, renderer: Renderer, tally: Tally, out: Outbox) -> None:
        """The answer into `out`; its end into `out.last`, which is sent when the call is settled."""
        asked_ms = self._clock_ms()
        async with self._fleet.exchange(call, admission.output_tokens_max, tally) as exchange:
            out.trip = Trip(tally.backend, asked_ms - call.began_ms, self._clock_ms() - asked_ms)
            if call.by_line:
                await self._stream(exchange, renderer, tally, out)
            else:
                reply = ollama.read_whole(await exchange.whole())
                if not reply.eval_count:
                    tally.saw_whole(len(f"{reply.text}{reply.thought}".encode()))
                out.last = renderer.whole(reply, tally.completed(reply.counts()))

    async def _stream(self, exchange: Exchange, renderer: Renderer, tally: Tally, out: Outbox) -> None:
        """Lines as they come; what arrived together leaves together. Only `done` is a good end, not the body's."""
        lines = Lines()
        async for piece in exchange.pieces():
            self._batch(lines.feed(piece), renderer, tally, out)
            if out.last is not None:
                if renderer.ended:
                    exchange.leave()
                return
            self._leases.progressed(tally)
        self._batch(lines.rest(), renderer, tally, out)
        if out.last is None:
            raise StreamBroken

    def _batch(self, lines: list[bytes], renderer: Renderer, tally: Tally, out: Outbox) -> None:
        """Counts and renders lines, up to the end of the answer if it is among them."""
        frames = []
        try:
            for line in lines:
                reply = ollama.read(line)
                if reply.carries_tokens:
                    tally.saw_token(self._clock_ms())
                if reply.done:
                    out.last = renderer.last(reply, tally.completed(reply.counts()))
                    return
                frames.append(renderer.feed(reply))
                if renderer.ended:
                    out.last = renderer.last(ollama.CUT, tally.completed(ollama.CUT.counts()))
                    return
        finally:
            out.put(b"".join(frames))


def _finish(out: Outbox, renderer: Renderer, failure: GatewayError | None) -> None:
    """The end of the answer, or its failure: as an HTTP status while nothing was sent, as a frame after that."""
    if out.last is not None:
        out.put(out.last)
    elif failure and out.begun:
        out.put(renderer.error(failure))
    elif failure:
        out.refuse(failure)
    out.end()
