"""A histogram for one thread: an observation costs a fifth of prometheus-client's, which takes a lock for each part.

Every call makes about ten of them, all in the event loop.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

INFINITY = "+Inf"


class _Series:
    """What was observed with one set of labels. `counts`: in each bucket alone, the last being the one without end."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Histogram(Collector):
    """`buckets`: upper bounds, rising. Without labels it is there from the start, as 0."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(buckets)
        self._said = [*(repr(float(bound)) for bound in buckets), INFINITY]
        self._series: dict[tuple[str, ...], _Series] = {}
        if not labels:
            self._add(())
        registry.register(self)

    def observe(self, value: float, *labels: str) -> None:
        """`labels`: their values, in their order."""
        series = self._series.get(labels) or self._add(labels)
        series.counts[bisect_left(self._bounds, value)] += 1
        series.total += value

    def keep(self, label: str, present: Collection[str]) -> None:
        """Forget what was observed with any other value of the label."""
        place = self._labels.index(label)
        for labels in [one for one in self._series if one[place] not in present]:
            del self._series[labels]

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in self._series.items():
            buckets, so_far = [], 0
            for bound, count in zip(self._said, series.counts, strict=True):
                so_far += count
                buckets.append((bound, float(so_far)))
            family.add_metric(labels, buckets, series.total)
        return [family]

    def _add(self, labels: tuple[str, ...]) -> _Series:
        if len(labels) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}")
        series = self._series[labels] = _Series(len(self._said))
        return series
