"""Batches: how large one may be, when it is due, and which of its entries are events. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.usage import BadEvent, UsageEvent, decode

ROWS_MAX = 2_000
ROWS_MIN = 50
ROWS_MORE = 100
PAGE_ROWS_MAX = 100
"""entries in one reply of Redis"""
BYTES_MAX = 4_194_304
WAIT_MS_MAX = 250


class BatchPolicy(Struct, frozen=True):
    """How many rows or bytes make a batch, and how long the first of them may wait for the others.

    A batch is read in pages, so it may have a page more bytes than that.
    """

    rows_max: int = ROWS_MAX
    bytes_max: int = BYTES_MAX
    wait_ms_max: int = WAIT_MS_MAX

    def full(self, *, rows: int, size: int) -> bool:
        return rows >= self.rows_max or size >= self.bytes_max

    def due(self, *, rows: int, size: int, age_ms: int) -> bool:
        return self.full(rows=rows, size=size) or (rows > 0 and age_ms >= self.wait_ms_max)


class BatchSize:
    """The policy as Postgres keeps up with it: half the rows after a batch that took too long, then ever more again."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._most = policy
        self.policy = policy

    def shrink(self) -> None:
        """No smaller than `ROWS_MIN` rows, unless the policy says so."""
        self._set(max(min(ROWS_MIN, self._most.rows_max), self.policy.rows_max // 2))

    def grow(self) -> None:
        self._set(min(self._most.rows_max, self.policy.rows_max + ROWS_MORE))

    def _set(self, rows_max: int) -> None:
        if rows_max != self.policy.rows_max:
            self.policy = replace(self._most, rows_max=rows_max)


class Entry(Struct, frozen=True):
    """One stream entry. No fields: its body is gone, only its place among the pending is left."""

    id: bytes
    fields: Mapping[bytes, bytes]

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return sum(map(len, self.fields.values()))


class Draft:
    """A batch that is being read, page by page."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._size = 0
        self.entries: list[Entry] = []

    @property
    def room(self) -> int:
        """Rows the next page may have."""
        return min(PAGE_ROWS_MAX, self._policy.rows_max - len(self.entries))

    @property
    def full(self) -> bool:
        return self._policy.full(rows=len(self.entries), size=self._size)

    def due(self, age_ms: int) -> bool:
        return self._policy.due(rows=len(self.entries), size=self._size, age_ms=age_ms)

    def add(self, page: Sequence[Entry]) -> bool:
        """Whether it was as large as asked for, so that more may be there."""
        whole = len(page) >= self.room
        self.entries += page
        self._size += sum(entry.size for entry in page)
        return whole


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
