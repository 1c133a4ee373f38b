"""START HERE. The life of a call: admit -> place -> relay -> settle.

    admit   one Redis call checks the key and every limit and reserves what the call may take, or refuses it
    place   one Redis call takes a slot on the best backend, or a place in the fair line until there is one; should that
            backend fail before the first byte, the next best gets the request
    relay   the answer is read as fast as it comes, counted, and turned into the client's dialect
    settle  one Redis call charges what was really used and writes the usage event; once, whatever happened

`run` is a task of its own, owned by `Running`, not by the client's connection: a client that leaves, or a server that
cancels its handlers, ends the relay but never the settling.
"""

from collections.abc import Callable

from gateway.core.call import Admission, Call, Queued, Trip
from gateway.core.tally import Tally
from gateway.cut import Cut
from gateway.dialects import ollama
from gateway.dialects.asked import Renderer
from gateway.dialects.ollama import Reply
from gateway.errors import CallAbandoned, GatewayError, QuotaExceeded
from gateway.feed import Feed
from gateway.gate import Gate
from gateway.outbox import Notes, Outbox
from gateway.ports import Exchange, Fleet, Leases, Observer


class Pipeline:
    """Runs calls. `clock_ms` is monotonic."""

    def __init__(
        self, leases: Leases, fleet: Fleet, clock_ms: Callable[[], int], observer: Observer, gate: Gate
    ) -> None:
        self._leases = leases
        self._fleet = fleet
        self._clock_ms = clock_ms
        self._observer = observer
        self._gate = gate

    async def run(self, call: Call, renderer: Renderer, out: Outbox) -> None:
        """Everything from admission to settlement. Never raises: what goes wrong is told to client and bill."""
        tally = Tally(call)
        try:
            async with self._gate:
                if out.reason:  # nobody waits for it any more
                    raise out.reason
                out.admission = await self._leases.open(call, tally, out.cut, self._fleet.turns_away(call))
        except GatewayError as refusal:
            out.refuse(refusal)
            return
        self._observer.admitted(call, out.admission)
        tally.admitted(out.admission.output_tokens_max)
        failure: GatewayError | None = None
        with Cut() as relaying:
            out.stops_with(relaying.now)
            try:
                await self._relay(call, out.admission, renderer, tally, out)
            except GatewayError as error:
                failure = error
            except Exception as error:  # a bug of ours must not keep the lease open for ever
                self._observer.surprised(call.endpoint, call.id, error)
                failure = GatewayError()
        if relaying.caught:
            failure = out.reason or CallAbandoned()
        if failure and out.last is None:
            tally.ended(failure.code, failure.status)
        bill = tally.bill(self._clock_ms())
        await self._leases.close(call, bill)
        _finish(out, renderer, failure)
        self._observer.ended(call, out.admission, bill)

    async def _relay(self, call: Call, admission: Admission, renderer: Renderer, tally: Tally, out: Outbox) -> None:
        """The answer into `out`; its end into `out.last`, which is sent when the call is settled.

        A list of prompts has several answers in one, asked for one after the other.
        """
        parts = call.parts()
        notes = Notes(out, renderer.queued if call.streamed else _unsaid, self._clock_ms)
        for number, part in enumerate(parts, 1):
            asked_ms = self._clock_ms()
            share = _share(admission, len(parts))
            async with self._fleet.exchange(part, admission, share, tally, notes.queued) as exchange:
                sent_ms = asked_ms + tally.waited_ms
                out.trip = out.trip or Trip(tally.backend, sent_ms - call.began_ms, self._clock_ms() - sent_ms)
                by_line = call.by_line
                reply = await (self._stream(exchange, renderer, tally, out) if by_line else _whole(exchange, tally))
                counts = tally.completed(reply.counts())
                if number < len(parts):
                    out.put(renderer.part(reply))
                else:
                    out.last = renderer.last(reply, counts) if by_line else renderer.whole(reply, counts)

    async def _stream(self, exchange: Exchange, renderer: Renderer, tally: Tally, out: Outbox) -> Reply:
        """The last line, when all that came before it is in `out`."""
        feed = Feed(renderer, tally, out, self._leases.progressed, self._clock_ms)
        await exchange.read(feed.take)
        last = feed.end()
        if renderer.ended:
            exchange.leave()
        return last


async def _whole(exchange: Exchange, tally: Tally) -> Reply:
    reply = ollama.read_whole(await exchange.whole())
    if not reply.eval_count:
        tally.saw_whole(len(f"{reply.text}{reply.thought}".encode()))
    return reply


def _unsaid(place: Queued) -> bytes:
    """An answer in one piece has nowhere to say it."""
    return b""


def _share(admission: Admission, parts: int) -> int:
    """How many tokens each of the answers may have."""
    share = admission.output_tokens_max // parts
    if parts > 1 and not share:
        raise QuotaExceeded
    return share


def _finish(out: Outbox, renderer: Renderer, failure: GatewayError | None) -> None:
    """The end of the answer, or its failure: as an HTTP status while nothing was sent, as a frame after that."""
    if out.last is not None:
        out.put(out.last)
    elif failure and out.begun:
        out.put(renderer.error(failure))
    elif failure:
        out.refuse(failure)
    out.end()
