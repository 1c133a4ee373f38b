"""What one round of one target came to, and what several of them say together. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct, field

FOREIGN_SHARE_MAX = 0.20
"""of two cores that others used, or that the host of this machine took: a round beyond it is not counted"""
ERRORS_SHARE_MAX = 0.01
"""of requests: who answers more of them with errors did something else than was asked, and is not comparable"""
KEPT_MIN = 2
"""where fewer rounds were quiet, all are counted and marked"""


class Sample(Struct, frozen=True, kw_only=True):
    """One round. `units` are requests or chunks; CPU is that of the target and of Redis. Times in microseconds.

    `latencies_us` are by percentile. `first_us` and `chunk_us` are single times, put together over all rounds.
    """

    seconds: float
    units: int
    requests: int
    cpu_us: float
    redis_us: float
    foreign_share: float
    latencies_us: dict[int, float] = {}
    first_us: list[float] = []
    chunk_us: list[float] = []
    errors: Counter[str] = field(default_factory=Counter)


class Figures(Struct, frozen=True, kw_only=True):
    """Of one target in one scenario: medians over its rounds, and the least where that is asked for too."""

    rounds: int
    dropped: int
    noisy: bool
    """whether rounds had to be counted that were not quiet"""
    per_s: float
    cpu_us: float
    cpu_us_min: float
    redis_us: float
    requests: int
    p50_us: float | None
    p99_us: float | None
    first_p50_us: float | None
    first_p99_us: float | None
    chunk_p50_us: float | None
    chunk_p99_us: float | None
    errors: dict[str, int]

    @property
    def sound(self) -> bool:
        """Whether it did what was asked, so that others can be compared with it."""
        return self.per_s > 0 and sum(self.errors.values()) <= ERRORS_SHARE_MAX * self.requests


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]


def quiet(samples: Sequence[Sample]) -> list[Sample]:
    return [one for one in samples if one.foreign_share <= FOREIGN_SHARE_MAX]


def figures(samples: Sequence[Sample]) -> Figures:
    """Of all rounds of one target; the first one warms up and is not counted, if there are more."""
    counted = list(samples[1:] or samples)
    kept = quiet(counted)
    noisy = len(kept) < min(KEPT_MIN, len(counted))
    used = counted if noisy else kept
    cpu = [one.cpu_us / max(1, one.units) for one in used]
    first = [time for one in used for time in one.first_us]
    chunk = [time for one in used for time in one.chunk_us]
    return Figures(
        rounds=len(used),
        dropped=len(counted) - len(used),
        noisy=noisy,
        per_s=median(one.units / one.seconds for one in used),
        cpu_us=median(cpu),
        cpu_us_min=min(cpu),
        redis_us=median(one.redis_us / max(1, one.units) for one in used),
        requests=sum(one.requests for one in samples),
        p50_us=_middle(used, lambda one: one.latencies_us.get(50)),
        p99_us=_middle(used, lambda one: one.latencies_us.get(99)),
        first_p50_us=percentile(first, 50) if first else None,
        first_p99_us=percentile(first, 99) if first else None,
        chunk_p50_us=percentile(chunk, 50) if chunk else None,
        chunk_p99_us=percentile(chunk, 99) if chunk else None,
        errors=dict(sum((one.errors for one in samples), Counter())),
    )


def _middle(samples: Sequence[Sample], of: Callable[[Sample], float | None]) -> float | None:
    values = [value for one in samples if (value := of(one)) is not None]
    return median(values) if values else None
