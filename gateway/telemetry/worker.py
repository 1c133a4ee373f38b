"""Every metric of a worker, with its help text. Labels are shards, loops and kinds of difference: never a key."""

from collections.abc import Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from gateway.core.books import What
from gateway.telemetry.histogram import Histogram
from gateway.telemetry.info import tell_version
from gateway.telemetry.stores import StoreMetrics

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class WorkerMetrics:
    """One registry for each worker; nothing is registered at import. What is said of a shard, every worker says."""

    def __init__(self, version: str = "") -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.rows = Counter("gateway_worker_rows", "Usage rows that this worker inserted.", registry=registry)
        self.repeated = Counter(
            "gateway_worker_repeated_events", "Events that were rows already, as after a crash.", registry=registry
        )
        self.set_aside = Counter(
            "gateway_worker_set_aside_events", "Events moved to usage:dead: no row can be made of them.",
            registry=registry,
        )  # fmt: skip
        self.batches = Counter("gateway_worker_batches", "Batches that this worker stored.", registry=registry)
        self.batch_seconds = Histogram(
            "gateway_worker_batch_seconds",
            "From the end of reading a batch to its acknowledgement.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.reaped = Counter(
            "gateway_worker_reaped_calls", "Calls of dead replicas that this worker settled.", registry=registry
        )
        self.failures = Counter(
            "gateway_worker_loop_failures", "Runs of a loop that failed and were tried again.", ["loop"],
            registry=registry,
        )  # fmt: skip
        self.stray_rows = Gauge(
            "gateway_worker_default_partition_rows",
            "Rows that no month's partition took, before upkeep moved them; not 0: a month had none.",
            registry=registry,
        )
        self.dropped = Counter(
            "gateway_worker_dropped_partitions", "Partitions older than USAGE_MONTHS_KEPT that were dropped.",
            registry=registry,
        )  # fmt: skip
        self._of_shards(registry)
        self._of_books(registry)
        self.stores = StoreMetrics(registry)
        tell_version(registry, version)

    def _of_shards(self, registry: CollectorRegistry) -> None:
        self.stream_events = Gauge(
            "gateway_worker_stream_events", "Usage events that are no rows yet.", ["shard"], registry=registry
        )
        self.pending_events = Gauge(
            "gateway_worker_pending_events", "Those of them that some worker has read.", ["shard"], registry=registry
        )
        self.lag_seconds = Gauge(
            "gateway_worker_lag_seconds", "Age of the oldest usage event that is no row yet.", ["shard"],
            registry=registry,
        )  # fmt: skip
        self.dead_events = Gauge(
            "gateway_worker_dead_events", "Events in usage:dead, for an operator to look at.", ["shard"],
            registry=registry,
        )  # fmt: skip
        self.stream_bytes = Gauge(
            "gateway_worker_stream_bytes", "Memory that a shard's events take in Redis, dead ones too.", ["shard"],
            registry=registry,
        )  # fmt: skip
        self.stream_bytes_max = Gauge(
            "gateway_worker_stream_bytes_max",
            "Beyond so many of a shard no new call of its keys is let in: its share of USAGE_STREAM_BYTES_MAX.",
            registry=registry,
        )

    def _of_books(self, registry: CollectorRegistry) -> None:
        self.differences = Gauge(
            "gateway_reconcile_differences",
            "Figures that disagreed between Redis, sums and rows when this worker looked, by what; 1,000 at most.",
            ["what"],
            registry=registry,
        )
        self.reconciled = Gauge(
            "gateway_reconcile_last_success_seconds",
            "When a worker last compared all of them, in unix time; 0: this one has not. The largest counts.",
            registry=registry,
        )

    def stored(self, *, rows: int, repeated: int, set_aside: int, seconds: float) -> None:
        """One batch."""
        self.rows.inc(rows)
        self.repeated.inc(repeated)
        self.set_aside.inc(set_aside)
        self.batches.inc()
        self.batch_seconds.observe(seconds)

    def backlog(self, shard: int, *, events: int, pending: int, lag_s: float, dead: int, size_bytes: int) -> None:
        self.stream_events.labels(shard).set(events)
        self.pending_events.labels(shard).set(pending)
        self.lag_seconds.labels(shard).set(lag_s)
        self.dead_events.labels(shard).set(dead)
        self.stream_bytes.labels(shard).set(size_bytes)

    def compared(self, differences: Mapping[str, int], whole_at_s: float | None) -> None:
        """How many differences of each kind were found. `whole_at_s`: unix time, when all was compared; None: not all
        was, so what was found before is not gone."""
        found = differences if whole_at_s is None else dict.fromkeys(get_args(What), 0) | dict(differences)
        for what, count in found.items():
            self.differences.labels(what).set(count)
        if whole_at_s is not None:
            self.reconciled.set(whole_at_s)

    def not_compared(self) -> None:
        """Another worker compares: what this one found is not the last word any more."""
        self.differences.clear()

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
