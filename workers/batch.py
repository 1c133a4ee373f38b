"""Batches: when one is due, and which of its entries are events. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from gateway.core.usage import BadEvent, UsageEvent, decode

ROWS_MAX = 1_000
WAIT_MS_MAX = 250


class BatchPolicy(Struct, frozen=True):
    """How many rows make a batch, and how long the first of them may wait for the others."""

    rows_max: int = ROWS_MAX
    wait_ms_max: int = WAIT_MS_MAX

    def due(self, *, rows: int, age_ms: int) -> bool:
        return rows >= self.rows_max or (rows > 0 and age_ms >= self.wait_ms_max)


class Entry(Struct, frozen=True):
    """One stream entry. No fields: its body is gone, only its place among the pending is left."""

    id: bytes
    fields: Mapping[bytes, bytes]


class Good(Struct, frozen=True):
    """An entry a row can be made of, as far as can be told without asking Postgres."""

    entry: Entry
    event: UsageEvent


class Bad(Struct, frozen=True):
    """An entry no row can be made of, and why; the reason repeats no value."""

    entry: Entry
    reason: str


def sort_entries(entries: Sequence[Entry]) -> tuple[list[Good], list[Bad]]:
    """The entries as events, and those that are none. Keeps their order, never raises."""
    good: list[Good] = []
    bad: list[Bad] = []
    for entry in entries:
        if not entry.fields:
            bad.append(Bad(entry, "body is gone"))
            continue
        try:
            good.append(Good(entry, decode(entry.fields)))
        except BadEvent as error:
            bad.append(Bad(entry, str(error)))
    return good, bad
