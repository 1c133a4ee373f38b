"""What Redis and Postgres take, as metrics that replicas and workers both have. Labels are names of our own code."""

from prometheus_client import CollectorRegistry, Counter

from gateway.telemetry.histogram import Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class StoreMetrics:
    """Times are what a caller waits, with its turn in the pipeline or for a connection."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._redis_seconds = Histogram(
            "gateway_redis_seconds",
            "What Redis took to answer, by function or command.",
            ["function"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._redis_failures = Counter(
            "gateway_redis_failures", "Functions and commands that Redis did not answer, or could not run.",
            registry=registry,
        )  # fmt: skip
        self._postgres_seconds = Histogram(
            "gateway_postgres_seconds",
            "What a transaction in Postgres took, with the wait for a connection.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._postgres_failures = Counter(
            "gateway_postgres_failures", "Transactions that Postgres had no time for, or was away for.",
            registry=registry,
        )  # fmt: skip

    def redis(self, function: str, seconds: float, *, failed: bool) -> None:
        self._redis_seconds.observe(seconds, function)
        if failed:
            self._redis_failures.inc()

    def postgres(self, seconds: float, *, failed: bool) -> None:
        self._postgres_seconds.observe(seconds)
        if failed:
            self._postgres_failures.inc()
