"""The fleet's functions in memory, for one replica: slots, a line in order of arrival, what is told of nodes.

Keeps the same contract suite as the real ones (tests/contract/test_placement.py). Nobody dies here, and no key is
served before another.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from gateway.core import breaker
from gateway.core.breaker import Breaker
from gateway.core.fleet import Registry
from gateway.core.placing import Ask, Freed, Full, Left, News, Placed, Waiting, breaker_name
from gateway.core.routing import Candidate, Rates
from gateway.errors import LimitsUnavailable

LOADED_MS = 5_000


class FakePlacement:
    """Keeps `ports.Placement`. `on_woken` hears which attempt has which slot. `away`: Redis does not answer."""

    def __init__(self, on_woken: Callable[[str, Placed], object] = lambda attempt, placed: None) -> None:
        self.on_woken = on_woken
        self.now_ms = 1_000_000
        self.away = False
        self.verbs: list[str] = []
        """every call of a method that reached it"""
        self.registry = Registry()
        self.rates: dict[tuple[str, str], Rates] = {}
        self.told: dict[str, bytes] = {}
        self.held: dict[str, tuple[str, str, Placed]] = {}
        """by attempt: backend, model, slot"""
        self.waiting: dict[str, Ask] = {}
        self.left: list[Left] = []
        self.loads: dict[str, tuple[str, str]] = {}
        self._loaded: dict[tuple[str, str], int] = {}
        self._revision = 0
        self._changes: dict[str, int] = {}
        self._due: dict[str, int] = {}
        self._prefixes: dict[str, str] = {}

    async def place(self, ask: Ask, *, depth_max: int, waits: bool) -> Placed | Waiting | Full:
        self._reach("place")
        if ask.id in self.held:
            return self.held[ask.id][2]
        if placed := self._taken(ask):
            self.waiting.pop(ask.id, None)
            return placed
        depth = self._depth(ask.model)
        if ask.id not in self.waiting and waits:
            if depth >= depth_max:
                return Full(depth)
            self.waiting[ask.id] = ask
        elif ask.id in self.waiting:
            self.waiting[ask.id] = ask
        return Waiting(self._position(ask), self._depth(ask.model))

    async def foresee(self, ask: Ask, *, depth_max: int) -> tuple[Placed | Waiting | Full, str]:
        self._reach("foresee")
        mind, depth = self._mindful(ask), self._depth(ask.model)
        candidate = self._chosen(ask)
        if candidate:
            return Placed(candidate.backend, self._loads(candidate, ask), candidate.backend == mind), mind
        return (Full(depth) if depth >= depth_max else Waiting(self._position(ask), depth)), mind

    async def leave(self, left: Sequence[Left]) -> list[Freed | None]:
        self._reach("leave")
        self.left += left
        freed = [self._freed(one) for one in left]
        self._grant()
        return freed

    async def hold(self, held: Iterable[tuple[str, str, str, str, bool]]) -> int:
        self._reach("hold")
        lost = [one for one in held if one[0] not in self.held]
        self.held |= {one: (backend, model, Placed(backend, False, False)) for one, backend, model, *_ in lost}
        self.loads |= {name: (one, model) for one, name, model, _, loads in lost if loads and name not in self.loads}
        return len(lost)

    async def loaded(self, pairs: Iterable[tuple[str, str]]) -> int:
        self._reach("loaded")
        ended = [(name, model) for name, model in pairs if self.loads.get(name, ("", ""))[1] == model]
        for name, model in ended:
            del self.loads[name]
            self._loaded[name, model] = self.now_ms
        self._grant()
        return len(ended)

    async def sync(self, version: int, revision: int, *, rates: bool, turns: dict[str, int]) -> News:
        self._reach("sync")
        known = revision if revision <= self._revision else 0
        mine = [what for what in turns if self._due.get(what, 0) <= self.now_ms]
        self._due |= {what: self.now_ms + turns[what] for what in mine}
        return News(
            now_ms=self.now_ms,
            version=self.registry.version,
            registry=self.registry if version != self.registry.version else None,
            revision=self._revision,
            told={name: self.told.get(name, b"") for name, at in self._changes.items() if at > known},
            busy=dict(Counter(name for one, model, _ in self.held.values() for name in (one, f"{one} {model}"))),
            loads={name: model for name, (_, model) in self.loads.items()},
            depths=dict(Counter(ask.model for ask in self.waiting.values())),
            rates=dict(self.rates) if rates else None,
            turns=mine,
        )

    async def saw(self, told: dict[str, bytes]) -> None:
        self._reach("saw")
        for name, value in told.items():
            if self.told.get(name, b"") != value:
                self._tell(name, value)

    async def judge(self, name: str, was: Breaker, to_be: Breaker) -> tuple[int, Breaker | None]:
        self._reach("judge")
        found = breaker.decode(self.told.get(name, b""))
        if found != was:
            return self.now_ms, found
        self._tell(name, breaker.encode(to_be))
        return self.now_ms, None

    def lose(self) -> None:
        """Redis has lost its data."""
        self.held.clear()
        self.waiting.clear()
        self.told.clear()
        self._changes.clear()
        self._revision = 0

    def busy(self, backend: str) -> int:
        return sum(one == backend for one, _, _ in self.held.values())

    def _reach(self, verb: str) -> None:
        if self.away:
            raise LimitsUnavailable
        self.verbs.append(verb)

    def _tell(self, name: str, value: bytes) -> None:
        self._revision += 1
        self.told[name], self._changes[name] = value, self._revision

    def _depth(self, model: str) -> int:
        return sum(ask.model == model for ask in self.waiting.values())

    def _position(self, ask: Ask) -> int:
        """Its own place, or the one behind all others."""
        names = [one.id for one in self.waiting.values() if one.model == ask.model]
        return names.index(ask.id) + 1 if ask.id in names else len(names) + 1

    def _mindful(self, ask: Ask) -> str:
        return next((self._prefixes[digest] for digest in ask.lookups if digest in self._prefixes), "")

    def _loads(self, candidate: Candidate, ask: Ask) -> bool:
        done = self._loaded.get((candidate.backend, ask.model), -LOADED_MS)
        return candidate.state != "loaded" and self.now_ms - done >= LOADED_MS

    def _chosen(self, ask: Ask) -> Candidate | None:
        there = sum(
            self.loads.get(one.backend, ("", ""))[1] == ask.model or not self._loads(one, ask) for one in ask.candidates
        )
        depth = self._depth(ask.model) + (ask.id not in self.waiting)

        def fits(one: Candidate) -> bool:
            if self.busy(one.backend) >= one.slots:
                return False
            worth = not there or depth >= one.load_from * there
            return not self._loads(one, ask) or (one.backend not in self.loads and worth)

        mind = self._mindful(ask)
        liked = [one for one in ask.candidates if one.backend == mind and one.equal]
        return next(filter(fits, [*liked, *ask.candidates]), None)

    def _taken(self, ask: Ask) -> Placed | None:
        candidate = self._chosen(ask)
        if candidate is None:
            return None
        loads = self._loads(candidate, ask)
        placed = Placed(candidate.backend, loads, candidate.backend == self._mindful(ask))
        self.held[ask.id] = candidate.backend, ask.model, placed
        if loads:
            self.loads[candidate.backend] = ask.id, ask.model
        self._prefixes |= dict.fromkeys(ask.records, candidate.backend)
        return placed

    def _freed(self, left: Left) -> Freed | None:
        self.waiting.pop(left.id, None)
        held = self.held.pop(left.id, None)
        if held is None:
            return None
        backend, model, _ = held
        if self.loads.get(backend, ("", ""))[0] == left.id:
            del self.loads[backend]
            if left.good:
                self._loaded[backend, model] = self.now_ms
        names = breaker_name(backend), breaker_name(backend, model)
        node, pair = (breaker.decode(self.told.get(name, b"")) for name in names)
        return Freed(self.now_ms, backend, model, node, pair)

    def _grant(self) -> None:
        for ask in list(self.waiting.values()):
            if placed := self._taken(ask):
                del self.waiting[ask.id]
                self.on_woken(ask.id, placed)
