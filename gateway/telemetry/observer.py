"""What becomes of every request: as metrics, as a log line each and, where that is asked for, as spans. Keeps
`ports.Observer`.
"""

from collections.abc import Callable
from typing import Any

from gateway.core.call import Admission, Bill, Call
from gateway.core.usage import OK
from gateway.errors import GatewayError
from gateway.telemetry import conventions
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.refusals import RefusalLines, knows_key
from gateway.telemetry.tracing import Tracing

MS_PER_S = 1_000


class CallObserver:
    """`has_model` says of a canonical name whether the fleet has it: no other one becomes a label. `clock_ms` is
    monotonic."""

    def __init__(
        self,
        metrics: Metrics,
        log: Log,
        tracing: Tracing,
        *,
        has_model: Callable[[str], bool],
        clock_ms: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._log = log
        self._tracing = tracing
        self._has_model = has_model
        self._clock_ms = clock_ms
        self.lines = RefusalLines(log, lambda: clock_ms() / MS_PER_S)

    def refused(self, endpoint: str, call_id: str, error: GatewayError, call: Call | None = None) -> None:
        self._metrics.refusals.count(error.code)
        self.lines.add(endpoint, call_id, error, call)
        if call and call.trace and knows_key(error):
            self._tracing.refused(call, error, self._clock_ms() - call.began_ms, self._model(call))

    def admitted(self, call: Call, admission: Admission) -> None:
        if admission.shadow:
            self._metrics.shadow_refusals.count(admission.shadow)
            self._log.info("would_refuse", request_id=call.id, key_id=call.credential.key_id, reason=admission.shadow)

    def ended(self, call: Call, admission: Admission, bill: Bill) -> None:
        model = self._model(call)
        self._count(call, bill, model)
        self.lines.catch_up()
        self._log.info("call", **_line(call, admission, bill))
        if call.trace:
            self._tracing.ended(call, admission, bill, model)

    def surprised(self, endpoint: str, call_id: str, error: Exception) -> None:
        self._log.surprise("call_failed", error, request_id=call_id, endpoint=endpoint)

    def _model(self, call: Call) -> str:
        return call.model if self._has_model(call.model) else conventions.OTHER

    def _count(self, call: Call, bill: Bill, model: str) -> None:
        detail, metrics, of_model = bill.detail, self._metrics, (conventions.operation(call), model)
        error = "" if detail.status == OK else detail.status
        metrics.calls.count(call.endpoint, detail.status)
        if detail.backend:
            metrics.backend_calls.count(detail.backend, model, detail.status)
        metrics.request_seconds.observe(detail.response_time_ms / MS_PER_S, *of_model, error)
        if bill.prompt_tokens:
            metrics.tokens.observe(bill.prompt_tokens, *of_model, "input")
        if bill.completion_tokens:
            metrics.tokens.observe(bill.completion_tokens, *of_model, "output")
        if bill.course and not detail.attempts:
            own_ms = bill.course.sent_ms - bill.course.waited_ms - call.body_ms
            metrics.own_seconds.observe(max(0, own_ms) / MS_PER_S)
        if detail.first_token_ms and not error:
            metrics.first_token_seconds.observe(detail.first_token_ms / MS_PER_S, *of_model)
            if bill.completion_tokens > 1:
                rest_ms = detail.response_time_ms - detail.first_token_ms
                metrics.output_token_seconds.observe(rest_ms / MS_PER_S / (bill.completion_tokens - 1), *of_model)


def _line(call: Call, admission: Admission, bill: Bill) -> dict[str, Any]:
    """The fields of an ended call's log line. The finish reason is as the node words it, and short."""
    detail = bill.detail
    line = {
        "request_id": call.id,
        "key_id": call.credential.key_id,
        "team_id": admission.team_id,
        "dialect": call.dialect,
        "endpoint": call.endpoint,
        "model": call.model,
        "backend": detail.backend,
        "streamed": call.streamed,
        "status": detail.status,
        "http_status": detail.http_status,
        "finish_reason": detail.finish_reason,
        "prompt_tokens": bill.prompt_tokens,
        "completion_tokens": bill.completion_tokens,
        "attempts": 1 + len(detail.attempts),
        "queue_ms": detail.queue_ms,
        "first_token_ms": detail.first_token_ms,
        "response_time_ms": detail.response_time_ms,
    }
    return line | {"trace_id": call.trace.trace_id} if call.trace else line
