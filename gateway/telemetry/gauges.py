"""What the fleet is at the moment it is looked at, as metrics. What is gone from it is gone from them, too."""

from collections.abc import Mapping, Sequence

from gateway.core.routing import WHOLE_NODE, Backend
from gateway.telemetry.conventions import OTHER
from gateway.telemetry.metrics import Metrics


def take(metrics: Metrics, backends: Sequence[Backend], depths: Mapping[str, int]) -> None:
    """`depths`: how many calls wait for each model."""
    for gauge in (metrics.backend_loaded, metrics.backend_ejected, metrics.waiting):
        gauge.clear()
    for of_node in (metrics.backend_up, metrics.backend_slots, metrics.backend_busy):
        of_node.clear()
    for backend in backends:
        _take(metrics, backend)
    for model, depth in depths.items():
        metrics.waiting.labels(model).set(depth)
    names = {backend.name for backend in backends}
    models = {model for backend in backends for model in backend.models} | {WHOLE_NODE, OTHER}
    for counter in (metrics.backend_calls, metrics.ejections, metrics.recycled):
        counter.keep("backend", names)
        counter.keep("model", models)
    metrics.wait_seconds.keep("model", models)
    for seen in (metrics.request_seconds, metrics.first_token_seconds, metrics.output_token_seconds, metrics.tokens):
        seen.keep("gen_ai_request_model", models)


def _take(metrics: Metrics, backend: Backend) -> None:
    metrics.backend_up.labels(backend.name).set(backend.healthy)
    metrics.backend_slots.labels(backend.name).set(backend.slots)
    metrics.backend_busy.labels(backend.name).set(backend.busy)
    for model in backend.loaded:
        metrics.backend_loaded.labels(backend.name, model).set(1)
    for model in backend.ejected:
        metrics.backend_ejected.labels(backend.name, model).set(1)
