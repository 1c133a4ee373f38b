"""Our histogram says what prometheus-client's would."""

import random

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.telemetry.histogram import Histogram

BOUNDS = (0.001, 0.25, 1, 2.5, 1_048_576)


def said(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Every sample by its name and labels; the times of creation that only the other one tells are left out."""
    return {
        (sample.name, *(f"{name}={_number(value)}" for name, value in sorted(sample.labels.items()))): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def _number(text: str) -> object:
    """Of a bound, which may be written in several ways."""
    try:
        return float(text)
    except ValueError:
        return text


def test_it_counts_and_sums_as_the_other_one_does(seed: str) -> None:
    chance = random.Random(seed)
    values = [*BOUNDS, 0.0, 2e6, *(chance.expovariate(1) for _ in range(200))]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Histogram("x_seconds", "Help.", ["model", "kind"], buckets=BOUNDS, registry=ours)
    other = prometheus_client.Histogram("x_seconds", "Help.", ["model", "kind"], buckets=BOUNDS, registry=theirs)
    for value in values:
        labels = (chance.choice('ab"'), chance.choice("cd\n"))
        one.observe(value, *labels)
        other.labels(*labels).observe(value)
    assert said(ours) == pytest.approx(said(theirs))


def test_without_labels_it_is_there_from_the_start() -> None:
    registry = CollectorRegistry()
    one = Histogram("x_seconds", "Help.", buckets=BOUNDS, registry=registry)
    assert registry.get_sample_value("x_seconds_count") == 0
    one.observe(2.5)
    assert registry.get_sample_value("x_seconds_bucket", {"le": "2.5"}) == 1
    assert b'x_seconds_bucket{le="+Inf"} 1.0\nx_seconds_count 1.0\nx_seconds_sum 2.5\n' in generate_latest(registry)


def test_what_is_gone_is_forgotten() -> None:
    registry = CollectorRegistry()
    one = Histogram("x_seconds", "Help.", ["model", "kind"], buckets=BOUNDS, registry=registry)
    for labels in (("a", "x"), ("b", "x"), ("b", "y")):
        one.observe(1, *labels)
    one.keep("model", {"a"})
    assert {labels[-1] for labels in said(registry)} == {"model=a"}
    assert registry.get_sample_value("x_seconds_count", {"model": "b", "kind": "x"}) is None
    assert registry.get_sample_value("x_seconds_count", {"model": "a", "kind": "x"}) == 1


def test_a_label_that_is_missing_is_a_bug() -> None:
    one = Histogram("x_seconds", "Help.", ["model"], buckets=BOUNDS, registry=CollectorRegistry())
    with pytest.raises(ValueError, match="has the labels"):
        one.observe(1)
