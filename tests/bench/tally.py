"""What a load generator has seen: finished exchanges, chunks, errors, times."""

from collections import Counter
from copy import deepcopy

from msgspec import Struct, field


class Tally(Struct):
    """Times in nanoseconds.

    `first_ns` and `chunk_ns` are what is added on the way between client and node, measured on the one clock that both
    read: for the first chunk both ways, there and back.
    """

    requests: int = 0
    chunks: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    whole_ns: list[int] = []
    first_ns: list[int] = []
    chunk_ns: list[int] = []

    def clear(self) -> None:
        """Begin anew; whoever counts here goes on counting here."""
        self.requests = self.chunks = 0
        for seen in (self.errors, self.whole_ns, self.first_ns, self.chunk_ns):
            seen.clear()

    def copy(self) -> "Tally":
        return deepcopy(self)
