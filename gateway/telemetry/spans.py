"""Spans of calls by OpenTelemetry's SDK, made when a call has ended. Imported only where they are wanted.

One a call, named and described as the conventions for generative AI have it, and one for each phase below it. Their
ids are chosen when the call arrives, as the backend is told of them; everything else is read off the bill. Never a
prompt, an answer, a key or an address of a client.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.span import TraceState
from opentelemetry.trace.status import Status, StatusCode

from gateway.core import ids, phases, trace
from gateway.core.call import Admission, Bill, Call
from gateway.core.trace import Trace
from gateway.core.usage import OK
from gateway.errors import GatewayError
from gateway.telemetry import conventions
from gateway.telemetry.complaints import Complaints
from gateway.telemetry.logs import Log
from gateway.telemetry.seldom import Seldom

NAME = "llm-gateway"
NS_PER_MS = 1_000_000
SERVER_ERROR = 500
Attributes = Mapping[str, str | int | Sequence[str]]


class Spans:
    """Keeps `tracing.Tracing`. The SDK reads its own OTEL_ variables; what it cannot send in time it drops."""

    def __init__(self, log: Log, version: str) -> None:
        self._complaints = Complaints("traces", "opentelemetry", Seldom(log, time.monotonic))
        self._complaints.listen()
        about = Resource({"service.name": NAME, "service.version": version}).merge(OTELResourceDetector().detect())
        self._ids = ChosenIds()
        self._provider = TracerProvider(id_generator=self._ids, resource=about, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(NAME, version)

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        caller = trace.presented(headers)
        trace_id = caller.trace_id if caller else secrets.token_hex(16)
        parent = _context(caller, caller.span_id) if caller else None
        decision = self._provider.sampler.should_sample(parent, int(trace_id, 16), NAME).decision
        return Trace(
            trace_id=trace_id,
            span_id=secrets.token_hex(8),
            flags=trace.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else 0,
            state=caller.state if caller else "",
            parent_id=caller.span_id if caller else "",
        )

    def ended(self, call: Call, admission: Admission, bill: Bill, model: str) -> None:
        if call.trace is None or not call.trace.sampled:
            return
        detail = bill.detail
        about: Attributes = {
            "gen_ai.usage.input_tokens": bill.prompt_tokens,
            "gen_ai.usage.output_tokens": bill.completion_tokens,
            **({"gen_ai.response.finish_reasons": [detail.finish_reason]} if detail.finish_reason else {}),
            **({"gateway.backend": detail.backend} if detail.backend else {}),
        }
        error = "" if detail.status == OK else detail.status
        self._call(call, call.trace, model, about, error, detail.http_status, detail.response_time_ms)
        self._phases(call, call.trace, bill)

    def refused(self, call: Call, error: GatewayError, response_time_ms: int, model: str) -> None:
        if call.trace and call.trace.sampled:
            self._call(call, call.trace, model, {}, error.code, error.status, response_time_ms)

    async def end(self, seconds: float) -> None:
        """In a thread that nobody waits for longer: the SDK's own patience is half a minute."""
        over, loop = asyncio.Event(), asyncio.get_running_loop()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(over.set)

        threading.Thread(target=shut_down, name="last-spans", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await over.wait()
        except TimeoutError:
            pass
        finally:
            self._complaints.ignore()

    def _call(
        self, call: Call, own: Trace, model: str, about: Attributes, error: str, status: int, response_time_ms: int
    ) -> None:
        operation, began_ns = conventions.operation(call), ids.unix_ms(call.id) * NS_PER_MS
        self._ids.choose(own.trace_id, own.span_id)
        span = self._tracer.start_span(
            f"{operation} {model}",
            context=_context(own, own.parent_id) if own.parent_id else Context(),
            kind=SpanKind.SERVER,
            start_time=began_ns,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.request.model": model,
                "gen_ai.provider.name": conventions.PROVIDER,
                "http.request.method": "POST",
                "http.route": call.endpoint,
                "http.response.status_code": status,
                "gateway.request_id": call.id,
                **about,
            },
        )
        _fail(span, error, status)
        span.end(began_ns + response_time_ms * NS_PER_MS)

    def _phases(self, call: Call, own: Trace, bill: Bill) -> None:
        began_ns, below = ids.unix_ms(call.id) * NS_PER_MS, _context(own, own.span_id)
        for phase in phases.of(bill):
            about = {"server.address": phase.backend} if phase.backend else {}
            span = self._tracer.start_span(
                phase.name,
                context=below,
                kind=SpanKind.CLIENT if phase.backend else SpanKind.INTERNAL,
                start_time=began_ns + phase.from_ms * NS_PER_MS,
                attributes=about,
            )
            _fail(span, phase.error, SERVER_ERROR)
            span.end(began_ns + phase.until_ms * NS_PER_MS)


class ChosenIds(RandomIdGenerator):
    """Random ids, but for the next span's, which was told to the backend before the span was made."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def choose(self, trace_id: str, span_id: str) -> None:
        self._trace_id, self._span_id = int(trace_id, 16), int(span_id, 16)

    def generate_trace_id(self) -> int:
        chosen, self._trace_id = self._trace_id, 0
        return chosen or super().generate_trace_id()

    def generate_span_id(self) -> int:
        chosen, self._span_id = self._span_id, 0
        return chosen or super().generate_span_id()


def _context(of: Trace, span_id: str) -> Context:
    """That of a span with that id, in the same trace: as a parent."""
    state = TraceState.from_header([of.state]) if of.state else None
    flags = TraceFlags(of.flags)
    parent = SpanContext(int(of.trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags, trace_state=state)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _fail(span: Span, error: str, status: int) -> None:
    """The client's own mistakes are errors of its spans, not of ours."""
    if error:
        span.set_attribute("error.type", error)
        if status >= SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
