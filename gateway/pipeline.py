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

from gateway.core.call import Admission, Call
from gateway.core.tally import Tally
from gateway.dialects import ollama
from gateway.dialects.asked import Renderer
from gateway.dialects.frames import Lines
from gateway.errors import CallAbandoned, Draining, GatewayError, StreamBroken
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
            out.admission = await self._leases.open(call, tally, self._fleet.objection(call.model))
        except GatewayError as refusal:
            out.refuse(refusal)
            return
        failure, last = None, b""
        with anyio.CancelScope() as relaying:
            out.stops_with(relaying.cancel)
            try:
                last = await self._relay(call, out.admission, renderer, tally, out)
            except GatewayError as error:
                failure = error
            except Exception as error:  # a bug of ours must not keep the lease open for ever
                self._observer.surprised(call, error)
                failure = GatewayError()
        if relaying.cancelled_caught:
            failure = CallAbandoned() if out.gone else Draining()
        if failure:
            tally.ended(failure.code, failure.status)
        bill = tally.bill(self._clock_ms())
        await self._leases.close(call, bill)
        _finish(out, renderer, failure, last)
        self._observer.ended(call, bill)

    async def _relay(self, call: Call, admission: Admission, renderer: Renderer, tally: Tally, out: Outbox) -> bytes:
        """The answer into `out`, all but its end, which is returned: it is sent when the call is settled."""
        async with self._fleet.exchange(call, admission.output_tokens_max, tally) as exchange:
            if not call.streamed:
                reply = ollama.read_whole(await exchange.whole())
                tally.completed(reply.counts())
                return renderer.whole(reply)
            return await self._stream(exchange, renderer, tally, out)

    async def _stream(self, exchange: Exchange, renderer: Renderer, tally: Tally, out: Outbox) -> bytes:
        """Lines as they come; what arrived together leaves together. Only `done` is a good end, not the body's."""
        lines = Lines()
        async for piece in exchange.pieces():
            last = self._batch(lines.feed(piece), renderer, tally, out)
            if last is not None:
                return last
            self._leases.progressed(tally)
        last = self._batch(lines.rest(), renderer, tally, out)
        if last is None:
            raise StreamBroken
        return last

    def _batch(self, lines: list[bytes], renderer: Renderer, tally: Tally, out: Outbox) -> bytes | None:
        """Counts and renders lines; the end of the answer once it is among them."""
        frames = []
        try:
            for line in lines:
                reply = ollama.read(line)
                if reply.carries_tokens:
                    tally.saw_token(self._clock_ms())
                if reply.done:
                    tally.completed(reply.counts())
                    return renderer.last(reply)
                frames.append(renderer.feed(reply))
        finally:
            out.put(b"".join(frames))
        return None


def _finish(out: Outbox, renderer: Renderer, failure: GatewayError | None, last: bytes) -> None:
    """The end of the answer, or its failure: as an HTTP status while nothing was sent, as a frame after that."""
    if failure is None:
        out.put(last)
    elif out.begun:
        out.put(renderer.error(failure))
    else:
        out.refuse(failure)
    out.end()
