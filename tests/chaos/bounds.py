"""What one call's row may say, by what its client saw, what nodes did and what was killed meanwhile. Pure.

A call is settled before its client gets the end of the answer, so a row that differs from what the client was told has
one excuse only: Redis was away at the end, and the replica that owed the settlement was killed before Redis was back.
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from tests.chaos.ledgers import Call, Fault, Work

REPORT_TOKENS = 64
"""a replica reports how far a stream has come every so many tokens"""
REPORT_S = 1.0
"""how long such a report may take, on a busy machine"""
INTERVAL_S = 5.0
"""a stream that is slower than that is reported so often"""
AHEAD_TOKENS_MAX = 64
"""what may be counted, and not be with the client yet, when a replica is killed"""
LEAVE_S = 2.0
"""how long it may take to notice that a client has left"""
OWED_S = 2.0
"""how long a replica may take to settle what it owes, once Redis is back"""

BEFORE = frozenset({
    "invalid_api_key", "rate_limit_exceeded", "insufficient_quota", "keys_not_loaded", "cost_exceeds_limit",
    "metering_backlog", "overloaded",
})  # fmt: skip
"""codes of errors that no admitted call ends in"""
AFTER = frozenset({
    "backend_failed", "backend_unreachable", "stream_broken", "backend_timeout", "backend_busy", "queue_timeout",
    "queue_full", "lease_lost", "replica_lost",
})  # fmt: skip
"""codes of errors that only an admitted call ends in"""


class Past(Struct, frozen=True):
    """One call with all that happened to it."""

    call: Call
    works: Sequence[Work]
    faults: Sequence[Fault]

    @property
    def rows_expected(self) -> tuple[int, int]:
        """At least and at most. Work of a node always has a row; who was refused has none."""
        call = self.call
        if call.end == "unreached":
            return 0, 0
        if self.works or call.end == "finished" or call.status == 200 or call.code in AFTER:
            return 1, 1
        return (0, 0) if call.code in BEFORE else (0, 1)

    @property
    def sent(self) -> int | None:
        """Tokens that nodes have sent for it; None where a node was killed over it."""
        return sum(work.tokens_sent for work in self.works) if all(work.closed for work in self.works) else None

    @property
    def killed_s(self) -> float | None:
        """When its replica was killed, if that was before the call can have been settled for certain."""
        until_s = self.call.ended_s + (LEAVE_S if self.call.end == "left" else 0)
        for away in self._away():
            if away.killed_s - REPORT_S <= until_s:
                until_s = max(until_s, away.up_s + OWED_S)
        kills = (one for one in self.faults if (one.kind, one.name) == ("gateway", self.call.replica))
        return next(
            (one.killed_s for one in kills if self.call.began_s <= one.dead_s and one.killed_s <= until_s), None
        )

    @property
    def disturbed(self) -> bool:
        """Whether something may have failed under it: Redis was killed about then, or a node before, which is
        left alone for long."""
        killed = [one for one in self.faults if one.killed_s <= self.call.ended_s + LEAVE_S]
        return any(
            one.kind == "node" or (one.kind == "redis" and one.up_s + OWED_S >= self.call.began_s) for one in killed
        )

    def reported_min(self, killed_s: float) -> int:
        """The fewest tokens that Redis must have heard of when the replica was killed: all but those of the last
        report, which could be made while Redis was there."""
        since_s = killed_s
        for away in sorted(self._away(), key=lambda one: -one.killed_s):
            if away.killed_s <= since_s <= away.up_s + REPORT_S:
                since_s = away.killed_s
        arrivals = self.call.arrivals
        due = sum(at_s <= since_s - REPORT_S for at_s in arrivals) - REPORT_TOKENS
        return max(0, due, sum(at_s <= since_s - REPORT_S - INTERVAL_S for at_s in arrivals))

    def reported_max(self) -> int | None:
        """The most that can have been counted: no more than nodes have sent, and of a stream hardly more than came."""
        ahead = len(self.call.arrivals) + AHEAD_TOKENS_MAX if self.call.streamed and self.call.end == "broken" else None
        return min((most for most in (self.sent, ahead) if most is not None), default=None)

    def _away(self) -> Iterator[Fault]:
        """Redis' kills that may matter to it."""
        return (one for one in self.faults if one.kind == "redis" and one.up_s + OWED_S >= self.call.began_s)
