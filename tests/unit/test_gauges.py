"""Metrics of the fleet: what is there is told, and what is gone is forgotten."""

import io
import json
from typing import Any

from gateway.core.routing import Backend, Loaded, Model
from gateway.telemetry import gauges
from gateway.telemetry.fleet import BackendObserver
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics

LLAMA = "llama3.2:3b"


def backend(name: str, **fields: Any) -> Backend:
    models = {LLAMA: Model(spelling=LLAMA)}
    return Backend(name=name, url="http://x", **{"healthy": True, "models": models, "slots": 2} | fields)


def samples(metrics: Metrics, label: str = "backend") -> dict[tuple[str, ...], float]:
    """By the metric's name and its labels' values."""
    found = {}
    for metric in metrics.registry.collect():
        for one in metric.samples:
            if label in one.labels and not one.name.endswith(("_created", "_bucket")):
                found[(one.name, *one.labels.values())] = one.value
    return found


def test_the_fleet_is_told_as_it_is_now() -> None:
    metrics = Metrics()
    there = backend("a", busy=1, loaded={LLAMA: Loaded()}, ejected=frozenset({"*"}))
    gauges.take(metrics, [there, backend("b", healthy=False)], {LLAMA: 3})
    assert samples(metrics) == {
        ("gateway_backend_up", "a"): 1,
        ("gateway_backend_up", "b"): 0,
        ("gateway_backend_slots", "a"): 2,
        ("gateway_backend_slots", "b"): 2,
        ("gateway_backend_busy_slots", "a"): 1,
        ("gateway_backend_busy_slots", "b"): 0,
        ("gateway_backend_loaded", "a", LLAMA): 1,
        ("gateway_backend_ejected", "a", "*"): 1,
    }
    assert samples(metrics, "model")["gateway_waiting_calls", LLAMA] == 3
    gauges.take(metrics, [backend("a")], {})
    assert {name[1] for name in samples(metrics)} == {"a"}
    assert ("gateway_backend_loaded", "a", LLAMA) not in samples(metrics)
    assert ("gateway_waiting_calls", LLAMA) not in samples(metrics, "model")


def test_what_was_counted_of_a_removed_backend_or_model_goes() -> None:
    metrics, log = Metrics(), Log(lambda: 0.0, io.StringIO())
    observer = BackendObserver(metrics, log)
    for name in ("a", "b"):
        observer.ejected(name, "*", 10.0)
        observer.recycled(name, LLAMA)
        metrics.backend_calls.count(name, LLAMA, "ok")
    observer.placed("a", LLAMA, 1_500, cached=True)
    gauges.take(metrics, [backend("a"), backend("b")], {})
    assert samples(metrics)["gateway_backend_calls_total", "b", LLAMA, "ok"] == 1
    gauges.take(metrics, [backend("a")], {})
    assert {name[1] for name in samples(metrics)} == {"a"}
    assert samples(metrics)["gateway_ejections_total", "a", "*"] == 1, "that one is still there"
    assert samples(metrics, "model")["gateway_wait_seconds_sum", LLAMA] == 1.5
    gauges.take(metrics, [backend("a", models={})], {})
    assert not [name for name in samples(metrics, "model") if LLAMA in name]
    assert samples(metrics, "hit") == {("gateway_affinity_calls_total", "true"): 1}


def test_what_becomes_of_a_backend_is_one_line_each() -> None:
    out = io.StringIO()
    observer = BackendObserver(Metrics(), Log(lambda: 0.0, out))
    observer.ejected("a", LLAMA, 10.0)
    observer.returned("a", LLAMA)
    observer.recycled("a", LLAMA)
    for draining, busy in ((False, 1), (True, 1), (True, 1), (True, 0), (True, 0), (False, 0), (True, 0)):
        observer.changed(backend("a", draining=draining, busy=busy))
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["event"] for one in said] == [
        "ejected",
        "returned",
        "recycled",
        "draining",
        "drained",
        "draining",
        "drained",
    ]
    assert all(one["backend"] == "a" for one in said)
    assert [one["model"] for one in said[:3]] == [LLAMA] * 3
