"""What becomes of requests, as metrics and log lines."""

import io
import json
import random
from typing import Any

import pytest

from gateway import errors
from gateway.core.call import Admission, Bill, Call, Course, Levels
from gateway.core.trace import Trace
from gateway.core.usage import Detail, Tried
from gateway.dialects.ollama import EmbedRequest
from gateway.errors import FailuresLimited, GatewayError, InvalidJson, RequestsLimited, Unauthorized
from gateway.state.limiter import REFUSALS
from gateway.telemetry import gauges
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import CallObserver
from gateway.telemetry.refusals import LINES_PER_S_MAX, knows_key
from gateway.telemetry.tracing import Untraced
from tests.fakes import MODEL, call
from tests.unit.test_gauges import backend

TRACE = Trace(trace_id="1" * 32, span_id="2" * 16, flags=1)
OF_MODEL = {"gen_ai_operation_name": "text_completion", "gen_ai_request_model": MODEL}


class Seen:
    def __init__(self) -> None:
        self.now_ms = 5_000
        self.metrics = Metrics("1.2.3")
        self._out = io.StringIO()
        log = Log(lambda: 0.0, self._out)
        self.observer = CallObserver(
            self.metrics, log, Untraced(), has_model=lambda name: name == MODEL, clock_ms=lambda: self.now_ms
        )

    def ended(self, one: Call, *, course: Course | None = None, tokens: int = 5, **detail: Any) -> None:
        bill = Bill(
            prompt_tokens=7,
            completion_tokens=tokens,
            paid=True,
            estimated=False,
            whole=True,
            detail=Detail(**{"model": one.model, "response_time_ms": 900, **detail}),
            course=course,
        )
        self.observer.ended(one, Admission(0, 9, Levels(), team_id="team1"), bill)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


def test_a_good_answer_is_measured_as_the_conventions_have_it() -> None:
    seen = Seen()
    seen.ended(call(body_ms=3), course=Course(30, 20), backend="a", first_token_ms=500)
    assert seen.value("gen_ai_server_request_duration_seconds_sum", **OF_MODEL, error_type="") == 0.9
    assert seen.value("gen_ai_server_time_to_first_token_seconds_sum", **OF_MODEL) == 0.5
    assert seen.value("gen_ai_server_time_per_output_token_seconds_sum", **OF_MODEL) == pytest.approx(0.1), "4 gaps"
    for kind, tokens in (("input", 7), ("output", 5)):
        assert seen.value("gen_ai_client_token_usage_sum", **OF_MODEL, gen_ai_token_type=kind) == tokens
    assert seen.value("gateway_overhead_seconds_sum") == 0.007, "neither the wait nor the client's own time"
    assert seen.value("gateway_info", version="1.2.3") == 1


def test_what_failed_says_nothing_of_how_fast_tokens_come() -> None:
    seen = Seen()
    tries = (Tried("b", "backend_timeout", 0, 5),)
    seen.ended(call(), course=Course(30, 0), first_token_ms=5, tokens=0, status="stream_broken", attempts=tries)
    assert seen.value("gen_ai_server_request_duration_seconds_count", **OF_MODEL, error_type="stream_broken") == 1
    assert seen.value("gen_ai_server_time_to_first_token_seconds_count", **OF_MODEL) is None
    assert seen.value("gen_ai_server_time_per_output_token_seconds_count", **OF_MODEL) is None
    assert seen.value("gateway_overhead_seconds_count") == 0, "the time of the failed attempt is not ours"


def test_embeddings_have_no_output() -> None:
    seen = Seen()
    seen.ended(call(upstream=EmbedRequest(input="x")), tokens=0)
    labels = OF_MODEL | {"gen_ai_operation_name": "embeddings"}
    assert seen.value("gen_ai_client_token_usage_count", **labels, gen_ai_token_type="input") == 1
    assert seen.value("gen_ai_client_token_usage_count", **labels, gen_ai_token_type="output") is None


def test_models_that_the_fleet_has_not_are_one_series_and_those_that_are_gone_are_forgotten(seed: str) -> None:
    seen, chance = Seen(), random.Random(seed)
    for _ in range(200):
        seen.ended(call(model=f"made-up-{chance.getrandbits(64):x}:latest"), backend="a", first_token_ms=9)
    seen.ended(call(), backend="a")
    counted = _series(seen.metrics)
    assert {labels["gen_ai_request_model"] for labels in counted if "gen_ai_request_model" in labels} == {
        MODEL,
        "other",
    }
    assert {labels["model"] for labels in counted if "backend" in labels} == {MODEL, "other"}
    gauges.take(seen.metrics, [backend("a", models={})], {})
    counted = _series(seen.metrics)
    assert {labels["gen_ai_request_model"] for labels in counted if "gen_ai_request_model" in labels} == {"other"}


def _series(metrics: Metrics) -> list[dict[str, str]]:
    return [sample.labels for metric in metrics.registry.collect() for sample in metric.samples]


def test_a_call_is_one_line() -> None:
    seen = Seen()
    seen.ended(call(trace=TRACE), backend="a", finish_reason="stop", queue_ms=4, first_token_ms=5)
    (line,) = seen.lines
    assert line == {
        "at": 0.0,
        "level": "info",
        "event": "call",
        "request_id": call().id,
        "key_id": call().credential.key_id,
        "team_id": "team1",
        "dialect": "",
        "endpoint": "/v1/chat/completions",
        "model": MODEL,
        "backend": "a",
        "streamed": True,
        "status": "ok",
        "http_status": 200,
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "attempts": 1,
        "queue_ms": 4,
        "first_token_ms": 5,
        "response_time_ms": 900,
        "trace_id": TRACE.trace_id,
    }
    seen.ended(call())
    assert "trace_id" not in seen.lines[1]


def test_a_refusal_tells_whose_it_was_only_when_the_key_is_known() -> None:
    seen = Seen()
    for error in (RequestsLimited(), Unauthorized(), FailuresLimited()):
        seen.observer.refused("/v1/chat/completions", "id", error, call())
    seen.observer.refused("/v1/chat/completions", "id", InvalidJson())
    assert [line["code"] for line in seen.lines] == [
        "rate_limit_exceeded",
        "invalid_api_key",
        "rate_limit_exceeded",
        "invalid_json",
    ]
    assert ["key_id" in line for line in seen.lines] == [True, False, False, False]
    assert {line["status"] for line in seen.lines} == {429, 401, 400}
    assert seen.value("gateway_refusals_total", code="rate_limit_exceeded") == 2


def test_every_verdict_of_admission_but_four_comes_after_the_key_was_found() -> None:
    strangers = {reason for reason, error in REFUSALS.items() if not knows_key(error())}
    assert strangers == {"not_ready", "ended", "unknown"}
    outside = {error for error in errors.every_error() if knows_key(error())} - set(REFUSALS.values())
    assert all(issubclass(error, GatewayError) for error in outside)
    assert not {Unauthorized, FailuresLimited, InvalidJson} & outside


def test_refusals_beyond_so_many_a_second_are_counted_in_one_line() -> None:
    seen = Seen()
    for _ in range(LINES_PER_S_MAX + 30):
        seen.observer.refused("/v1/chat/completions", "id", RequestsLimited())
    assert len(seen.lines) == LINES_PER_S_MAX
    seen.now_ms += 999
    seen.observer.refused("/v1/chat/completions", "id", RequestsLimited())
    assert len(seen.lines) == LINES_PER_S_MAX, "it is the same second"
    seen.now_ms += 1
    seen.observer.lines.catch_up()
    assert seen.lines[-1] == {"at": 0.0, "level": "info", "event": "refused_more", "requests": 31}
    seen.observer.refused("/v1/chat/completions", "id", RequestsLimited())
    assert [line["event"] for line in seen.lines[LINES_PER_S_MAX:]] == ["refused_more", "refused"]
    assert seen.value("gateway_refusals_total", code="rate_limit_exceeded") == LINES_PER_S_MAX + 32, "all are counted"
