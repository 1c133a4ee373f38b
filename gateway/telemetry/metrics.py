"""Every metric of a replica, with its help text. Labels are bounded: never a key, an address or a client's own text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One registry for each replica; nothing is registered at import."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
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
        self.tokens = Counter(
            "gateway_tokens", "Tokens of ended calls; kind is prompt or completion.", ["kind"], registry=registry
        )
        self.call_seconds = Histogram(
            "gateway_call_seconds",
            "From the request's arrival to the end of the answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "gateway_first_token_seconds",
            "From the request's arrival to the first token of a streamed answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.running = Gauge("gateway_running_calls", "Calls that run on this replica now.", registry=registry)
        self.unsettled = Gauge(
            "gateway_unsettled_calls", "Ended calls that wait for Redis to be settled.", registry=registry
        )
        self.wait_seconds = Histogram(
            "gateway_wait_seconds",
            "How long calls waited for a slot of a backend, by model.",
            ["model"],
            buckets=_SECONDS,
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
        self._of_backends(registry)

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
