"""What becomes of every request, as metrics and as one log line a call. Keeps `ports.Observer`."""

from gateway.core.call import Admission, Bill, Call
from gateway.errors import GatewayError
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics


class CallObserver:
    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log

    def refused(self, endpoint: str, call_id: str, error: GatewayError) -> None:
        self._metrics.refusals.labels(error.code).inc()
        self._log.debug("refused", request_id=call_id, endpoint=endpoint, code=error.code)

    def admitted(self, call: Call, admission: Admission) -> None:
        if admission.shadow:
            self._metrics.shadow_refusals.labels(admission.shadow).inc()
            self._log.info("would_refuse", request_id=call.id, key_id=call.credential.key_id, reason=admission.shadow)

    def ended(self, call: Call, bill: Bill) -> None:
        detail, metrics = bill.detail, self._metrics
        metrics.calls.labels(call.endpoint, detail.status).inc()
        metrics.tokens.labels("prompt").inc(bill.prompt_tokens)
        metrics.tokens.labels("completion").inc(bill.completion_tokens)
        metrics.call_seconds.labels(call.endpoint).observe(detail.response_time_ms / 1000)
        if detail.backend:
            metrics.backend_calls.labels(detail.backend, call.model, detail.status).inc()
        if detail.first_token_ms:
            metrics.first_token_seconds.labels(call.endpoint).observe(detail.first_token_ms / 1000)
        self._log.info(
            "call",
            request_id=call.id,
            key_id=call.credential.key_id,
            endpoint=call.endpoint,
            model=call.model,
            backend=detail.backend,
            status=detail.status,
            prompt_tokens=bill.prompt_tokens,
            completion_tokens=bill.completion_tokens,
            response_time_ms=detail.response_time_ms,
        )

    def surprised(self, call: Call, error: Exception) -> None:
        self._log.surprise("call_failed", error, request_id=call.id, endpoint=call.endpoint)
