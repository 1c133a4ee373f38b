"""What counters and histograms for one thread have in common: something for each set of labels, kept or forgotten."""

from collections.abc import Collection, Sequence
from typing import Generic, TypeVar

from prometheus_client.registry import Collector

Kept = TypeVar("Kept")


class Labelled(Collector, Generic[Kept]):
    """`_series`: what is kept, by the values of the labels in their order."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], Kept] = {}

    def keep(self, label: str, present: Collection[str]) -> None:
        """Forget what is kept of any other value of the label."""
        place = self._labels.index(label)
        for labels in [one for one in self._series if one[place] not in present]:
            del self._series[labels]

    def _begin(self, labels: tuple[str, ...], kept: Kept) -> None:
        """Raises `ValueError` for labels that it does not have."""
        if len(labels) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}")
        self._series[labels] = kept
