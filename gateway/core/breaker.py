"""When a backend, or one model of it, gets no calls for a while: a table of states and events.

A backend that fails three times on end is ejected, each time for longer. Its end is not a clock's to say: only a real
generation of one token brings it back, for a node whose runner is wedged answers every probe (reliability F44-F46).
Chance keeps many replicas and many nodes from acting at the same moment; like the clock it comes in as an argument.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

FAULTS_MAX = 3
"""on end, until it is ejected"""
EJECTION_MS = 10_000
"""times the number of ejections"""
EJECTION_MS_MAX = 300_000
JITTER = 0.3
TRIAL_MS = 5_000
"""from a trial that failed to the next, and up to JITTER more: who comes back is back within 10 s"""
TRYING_MS = 20_000
"""from the beginning of a trial to the next, should nothing be heard of it: two at once would prove nothing"""
GOOD_MS = 600_000
"""without an ejection, and those before are forgotten"""

Event = Literal["ok", "fault", "trial", "trial_ok", "trial_failed", "recycled"]
State = Literal["closed", "ejected"]


class Breaker(Struct, frozen=True, omit_defaults=True):
    """What is remembered of a backend, or of one of its models. One that equals the default needs no keeping."""

    failures: int = 0
    """on end"""
    ejections: int = 0
    """within GOOD_MS of each other"""
    until_ms: int = 0
    """0: closed. Else it is ejected, and not tried before"""
    since_ms: int = 0
    """when the last ejection ended"""
    recycled: bool = False
    """a silent model was unloaded once, and has not served since: it is not unloaded again"""


_CLOSED = Breaker()
_packed = msgspec.json.Decoder(Breaker)


def ejected(breaker: Breaker) -> bool:
    return breaker.until_ms != 0


def trial_due(breaker: Breaker, now_ms: int) -> bool:
    return ejected(breaker) and now_ms >= breaker.until_ms


def after(breaker: Breaker, event: Event, now_ms: int, chance: float) -> Breaker:
    """The breaker once `event` has happened. `chance` is in [0, 1)."""
    return TABLE["ejected" if ejected(breaker) else "closed", event](breaker, now_ms, chance)


def encode(breaker: Breaker) -> bytes:
    """The same bytes for the same breaker; none for the default."""
    return msgspec.json.encode(breaker) if breaker != _CLOSED else b""


def decode(packed: bytes) -> Breaker:
    return _packed.decode(packed) if packed else _CLOSED


def _served(breaker: Breaker, now_ms: int, chance: float) -> Breaker:
    return _CLOSED if not _ejections(breaker, now_ms) else replace(breaker, failures=0, recycled=False)


def _failed(breaker: Breaker, now_ms: int, chance: float) -> Breaker:
    if breaker.failures + 1 < FAULTS_MAX:
        return replace(breaker, failures=breaker.failures + 1)
    ejections = _ejections(breaker, now_ms) + 1
    plain_ms = min(EJECTION_MS * ejections, EJECTION_MS_MAX)
    ejection_ms = min(int(plain_ms * (1 + JITTER * (2 * chance - 1))), EJECTION_MS_MAX)
    return replace(breaker, failures=FAULTS_MAX, ejections=ejections, until_ms=now_ms + ejection_ms)


def _returned(breaker: Breaker, now_ms: int, chance: float) -> Breaker:
    return Breaker(ejections=breaker.ejections, since_ms=now_ms)


def _tried(breaker: Breaker, now_ms: int, chance: float) -> Breaker:
    return replace(breaker, until_ms=now_ms + TRYING_MS) if now_ms >= breaker.until_ms else breaker


def _tried_in_vain(breaker: Breaker, now_ms: int, chance: float) -> Breaker:
    """The next trial is later, but the ejection is no longer than it was: being down long is one failure, not many."""
    return replace(breaker, until_ms=now_ms + int(TRIAL_MS * (1 + JITTER * chance)))


def _unloaded(breaker: Breaker, now_ms: int, chance: float) -> Breaker:
    return replace(breaker, recycled=True)


def _unmoved(breaker: Breaker, now_ms: int, chance: float) -> Breaker:
    return breaker


def _ejections(breaker: Breaker, now_ms: int) -> int:
    """Those that still count."""
    return breaker.ejections if now_ms - breaker.since_ms < GOOD_MS else 0


TABLE: dict[tuple[State, Event], Callable[[Breaker, int, float], Breaker]] = {
    ("closed", "ok"): _served,
    ("closed", "fault"): _failed,
    ("closed", "trial"): _unmoved,
    ("closed", "trial_ok"): _served,
    ("closed", "trial_failed"): _unmoved,  # begun before another replica's trial went well
    ("closed", "recycled"): _unloaded,
    ("ejected", "ok"): _unmoved,  # calls that were running when it was ejected prove nothing
    ("ejected", "fault"): _unmoved,
    ("ejected", "trial"): _tried,
    ("ejected", "trial_ok"): _returned,
    ("ejected", "trial_failed"): _tried_in_vain,
    ("ejected", "recycled"): _unloaded,
}
