"""A key or a team as the model sees it: limits, account, and buckets that are fractions of tokens at a time."""

from fractions import Fraction
from math import ceil, floor

from msgspec import UNSET, Struct, UnsetType

from gateway.core import names
from gateway.core.limits import Limits
from tests.buckets import MINUTE_US, per_minute

CLOCK_BACK_US_MAX = 5_000_000


class Line(Struct, frozen=True):
    """One bucket as it is limited: its name, `limit` tokens a minute, `capacity` at once."""

    kind: str
    field: str
    limit: int
    capacity: int

    @property
    def den(self) -> int:
        return per_minute(self.limit).den


class Bucket(Struct):
    """Fractions of tokens at microseconds; `den` is the unit it was last written in."""

    tokens: Fraction
    at: int
    den: int


def value(limit: int | UnsetType | None) -> int | None:
    return None if limit is UNSET else limit


class Owner:
    """A key or a team: its limits, its account, its buckets."""

    def __init__(self, whose: str) -> None:
        self.whose = whose
        self.limits = Limits()
        self.metered = self.shadow = False
        self.granted = self.charged = self.credit_held = 0
        self.spent: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.would: dict[str, int] = {}
        self.running: dict[int, int] = {}
        self.buckets: dict[str, Bucket] = {}
        self.last_lines: dict[str, Line] = {}
        """how each bucket was limited when it was last written"""
        self.written: list[tuple[Line, Bucket]] = []
        """buckets that the last step wrote"""

    def lines(self, model: str | None) -> list[Line]:
        """The buckets that a call to `model` meets, in their order; None: all there are."""
        limits, found = self.limits, []
        if rpm := value(limits.rate_limit_per_min):
            found.append(Line("requests", "requests", rpm, value(limits.burst) or rpm))
        if tpm := value(limits.tokens_per_min):
            found.append(Line("tokens", "tokens", tpm, tpm))
        for glob, one in ({} if limits.model_limits is UNSET else limits.model_limits).items():
            for kind, limit in (("requests", one.rate_limit_per_min), ("tokens", one.tokens_per_min)):
                if limit and (model is None or names.matches(glob, model)):
                    found.append(Line(kind, f"{kind} {glob}", limit, limit))
        return found

    def look(self, line: Line, now_us: int) -> Bucket:
        """The bucket at that time; nothing is written by looking."""
        before = self.buckets.get(line.field)
        if before is None:
            return Bucket(Fraction(line.capacity), now_us, line.den)
        tokens, at = before.tokens, before.at
        if before.den != line.den:
            tokens = Fraction(floor(tokens * line.den), line.den)
        if now_us < at:
            at = now_us if at - now_us > CLOCK_BACK_US_MAX else at
        else:
            tokens, at = tokens + Fraction((now_us - at) * line.limit, MINUTE_US), now_us
        return Bucket(min(tokens, Fraction(line.capacity)), at, line.den)

    def take(self, line: Line, tokens: Fraction | int, now_us: int, floor: int | None = None) -> None:
        """Write the bucket less so many tokens; fewer than none are given back."""
        bucket = self.look(line, now_us)
        bucket.tokens = min(bucket.tokens - tokens, Fraction(line.capacity))
        if floor is not None:
            bucket.tokens = max(bucket.tokens, Fraction(floor))
        self.buckets[line.field] = bucket
        self.last_lines[line.field] = line
        self.written.append((line, bucket))

    def wait_ms(self, line: Line, tokens: int, now_us: int) -> int:
        """Until the bucket holds so many."""
        bucket = self.look(line, now_us)
        return ceil(short_us(bucket, line, tokens, now_us) / 1_000)

    def free_credits(self) -> int:
        return self.granted - self.charged - self.credit_held


def short_us(bucket: Bucket, line: Line, tokens: int, now_us: int) -> Fraction:
    """Microseconds until it holds so many."""
    short = (tokens - bucket.tokens) * MINUTE_US / line.limit
    return short + max(0, bucket.at - now_us) if short > 0 else Fraction(0)
