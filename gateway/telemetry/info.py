"""Which version a process runs: the one metric that replicas and workers tell alike."""

from prometheus_client import CollectorRegistry, Gauge


def tell_version(registry: CollectorRegistry, version: str) -> None:
    info = Gauge("gateway_info", "1; version is this replica's or worker's.", ["version"], registry=registry)
    info.labels(version).set(1)
