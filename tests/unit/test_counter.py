"""Our counter says what prometheus-client's would."""

import random

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.telemetry.counter import Counter


def lines(registry: CollectorRegistry) -> set[bytes]:
    """What is exposed; the times of creation that only the other one tells are left out."""
    return {line for line in generate_latest(registry).splitlines() if b"_created" not in line}


def test_it_counts_as_the_other_one_does(seed: str) -> None:
    chance = random.Random(seed)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Counter("x_calls", "Help.", ["model", "kind"], registry=ours)
    other = prometheus_client.Counter("x_calls", "Help.", ["model", "kind"], registry=theirs)
    assert lines(ours) == lines(theirs)
    for _ in range(200):
        labels = (chance.choice('ab"'), chance.choice("cd\n"))
        one.count(*labels)
        other.labels(*labels).inc()
    assert lines(ours) == lines(theirs)


def test_what_is_gone_is_forgotten() -> None:
    registry = CollectorRegistry()
    one = Counter("x_calls", "Help.", ["model", "kind"], registry=registry)
    for labels in (("a", "x"), ("b", "x"), ("b", "y")):
        one.count(*labels)
    one.keep("model", {"a"})
    assert registry.get_sample_value("x_calls_total", {"model": "a", "kind": "x"}) == 1
    assert registry.get_sample_value("x_calls_total", {"model": "b", "kind": "x"}) is None


def test_labels_that_it_does_not_have_are_a_bug() -> None:
    one = Counter("x_calls", "Help.", ["model"], registry=CollectorRegistry())
    with pytest.raises(ValueError, match="labels"):
        one.count("a", "b")
