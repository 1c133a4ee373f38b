"""Every metric of a replica, with its help text. Labels are bounded: never a key, an address or a client's own text."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from gateway.telemetry import conventions
from gateway.telemetry.counter import Counter
from gateway.telemetry.histogram import Histogram
from gateway.telemetry.info import tell_version
from gateway.telemetry.stores import StoreMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OWN_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_OF_A_MODEL = ("gen_ai_operation_name", "gen_ai_request_model")


class Metrics:
    """One registry for each replica; nothing is registered at import."""

    def __init__(self, version: str = "") -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self._of_calls(registry)
        self._of_answers(registry)
        self._of_backends(registry)
        self.stores = StoreMetrics(registry)
        self.loop_lag = Gauge(
            "gateway_loop_lag_seconds",
            "The longest that the event loop was busy with one thing, in the last 30 to 60 seconds.",
            registry=registry,
        )
        tell_version(registry, version)

    def _of_calls(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "gateway_calls", "Calls that ended, by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.refusals = Counter(
            "gateway_refusals", "Requests refused before admission, by error code.", ["code"], registry=registry
        )
        self.shadow_refusals = Counter(
            "gateway_shadow_refusals",
            "Calls let in that limits in shadow would have refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self.running = Gauge("gateway_running_calls", "Calls that run on this replica now.", registry=registry)
        self.unread = Gauge(
            "gateway_unread_calls",
            "Calls that this replica has left on their connections, as more are being worked on than it can.",
            registry=registry,
        )
        self.unsettled = Gauge(
            "gateway_unsettled_calls", "Ended calls that wait for Redis to be settled.", registry=registry
        )
        self.wait_seconds = Histogram(
            "gateway_wait_seconds",
            "How long calls waited for a slot of a backend, by model.",
            ["model"],
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "gateway_retries", "Calls sent to another backend, by the code of the error before.", ["code"],
            registry=registry,
        )  # fmt: skip
        self.affinity = Counter(
            "gateway_affinity_calls",
            "Calls that got a slot; hit says whether it is where the beginning of their prompt was served last.",
            ["hit"],
            registry=registry,
        )

    def _of_answers(self, registry: CollectorRegistry) -> None:
        """Named and measured as OpenTelemetry's conventions for generative AI have it."""
        self.request_seconds = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From a call's arrival to the end of its answer; error_type is the error's code, or client_gone.",
            [*_OF_A_MODEL, "error_type"],
            buckets=conventions.REQUEST_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a call's arrival to the first token of its answer; of good answers that came token by token.",
            _OF_A_MODEL,
            buckets=conventions.FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self.output_token_seconds = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Between tokens of an answer, on average after its first; of good answers that came token by token.",
            _OF_A_MODEL,
            buckets=conventions.OUTPUT_TOKEN_SECONDS,
            registry=registry,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a call as they are charged; gen_ai_token_type is input or output.",
            [*_OF_A_MODEL, "gen_ai_token_type"],
            buckets=conventions.TOKENS,
            registry=registry,
        )
        self.own_seconds = Histogram(
            "gateway_overhead_seconds",
            "From a request's last byte until it was sent to a backend, without placement and the wait for a slot.",
            buckets=_OWN_SECONDS,
            registry=registry,
        )

    def _of_backends(self, registry: CollectorRegistry) -> None:
        """What is said of single backends; `telemetry/gauges.py` takes away what is said of those that are gone."""
        self.backend_up = Gauge(
            "gateway_backend_up", "Whether a backend answered its last probe.", ["backend"], registry=registry
        )
        self.backend_slots = Gauge(
            "gateway_backend_slots", "Calls a backend works on at a time.", ["backend"], registry=registry
        )
        self.backend_busy = Gauge(
            "gateway_backend_busy_slots",
            "Slots of a backend that calls of all replicas have taken.",
            ["backend"],
            registry=registry,
        )
        self.backend_loaded = Gauge(
            "gateway_backend_loaded", "1 for each model in a backend's memory.", ["backend", "model"], registry=registry
        )
        self.backend_ejected = Gauge(
            "gateway_backend_ejected",
            "1 for each model of a backend that gets no calls, as they failed too often; * is the whole backend.",
            ["backend", "model"],
            registry=registry,
        )
        self.waiting = Gauge(
            "gateway_waiting_calls", "Calls of all replicas that wait for a slot, by model.", ["model"],
            registry=registry,
        )  # fmt: skip
        self.backend_calls = Counter(
            "gateway_backend_calls",
            "Calls that ended at a backend, by model and status.",
            ["backend", "model", "status"],
            registry=registry,
        )
        self.ejections = Counter(
            "gateway_ejections",
            "How often a model of a backend, or * for all of it, was ejected; counted where it was noticed.",
            ["backend", "model"],
            registry=registry,
        )
        self.recycled = Counter(
            "gateway_recycled",
            "Models that were unloaded because they had stopped to answer.",
            ["backend", "model"],
            registry=registry,
        )

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
