"""Keys that want more than there is, against the real functions, in simulated time."""

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random

from msgspec import Struct

from gateway.core.placing import Left
from gateway.state.functions import fleet_source
from tests.fleets import FleetBench, M, ask, candidate, place

FOR_EVER_MS = "9000000000"


def patient() -> str:
    """The functions, but nobody has to say that it is still there: who waits is what a crowd is about."""
    library = fleet_source()
    for name in ("SLOT_MS = 15000", "CLAIM_MS = 5000", "PATIENCE_MS = 4000"):
        assert f"local {name}" in library
        library = library.replace(f"local {name}", f"local {name.split(' = ')[0]} = {FOR_EVER_MS}")
    return library


class User(Struct):
    """A key that always has `at_once` calls open, each expected to come to so many tokens and coming to `actual`."""

    key: str
    at_once: int
    weight: int = 1
    expected: int = 100
    actual: Callable[[Random], int] = lambda _: 100
    since_ms: int = 0
    served: int = 0
    calls: int = 0


class Crowd:
    """Users of one model on one node with `slots`. A token takes a millisecond."""

    def __init__(self, bench: FleetBench, slots: int, chance: Random) -> None:
        self._bench, self._slots, self._chance = bench, slots, chance
        self._began_ms = bench.now_ms
        self._running: list[tuple[int, str, int]] = []
        """when it ends, its id, tokens"""
        self._known: set[str] = set()
        self._users: dict[str, User] = {}
        self._number = 0
        self.grants: list[str] = []
        """whose call got a slot, in order"""
        self.passed: Counter[str] = Counter()
        """by key, the most calls of others that got a slot while its oldest waiting call did not"""
        self._since: dict[str, int] = {}

    async def run(self, users: list[User], ms: int) -> None:
        await self._bench.register(n1=self._slots)
        later = sorted(users, key=lambda user: user.since_ms)
        while (now := self._bench.now_ms - self._began_ms) < ms:
            while later and later[0].since_ms <= now:
                await self._come(later.pop(0))
            ends_ms, one, tokens = heapq.heappop(self._running)
            self._bench.set_clock(max(ends_ms, self._bench.now_ms))
            user = self._users.pop(one)
            user.served += tokens
            user.calls += 1
            await self._bench.a.leave([Left(id=one, tokens=tokens, good=True)])
            self._notice()
            await self._ask(user)

    async def _come(self, user: User) -> None:
        for _ in range(user.at_once):
            await self._ask(user)

    async def _ask(self, user: User) -> None:
        self._number += 1
        one = f"c{self._number}"
        self._users[one] = user
        self._since[one] = len(self.grants)
        wish = ask(one, candidate("n1"), key=user.key, weight=user.weight, model=M, tokens=user.expected)
        await place(self._bench.a, wish)
        self._notice()

    def _notice(self) -> None:
        """Who has a slot now begins."""
        held = set(self._bench.redis.hkeys("{fleet}:held"))
        for one in sorted(held - self._known):
            user = self._users[one]
            self.passed[user.key] = max(self.passed[user.key], len(self.grants) - self._since[one])
            self.grants.append(user.key)
            tokens = user.actual(self._chance)
            heapq.heappush(self._running, (self._bench.now_ms + tokens, one, tokens))
        self._known = held
