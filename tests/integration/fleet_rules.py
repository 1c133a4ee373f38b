"""What may happen to the fleet's slots and its line, by chance, and what has to be so after every step.

Replicas place, poll, hold and leave; they know little and late which models are loaded; they die. Nothing here looks at
how the functions do it: only at what they leave in Redis, and at what replicas were told.
"""

from collections import Counter
from random import Random
from typing import Any

from gateway.core.placing import Ask, Full, Placed
from gateway.core.routing import Candidate
from gateway.state.placement import RedisPlacement
from tests.fleets import FleetBench, Seen, ask, candidate, place

NODES = {"n1": 1, "n2": 2, "n3": 3}
MODELS = ("m1:latest", "m2:latest")
KEYS = {"k1": 1, "k2": 3, "k3": 1, "k4": 1}
"""weights"""
DEPTH_MAX = 5
SLOT_MS, CLAIM_MS, PATIENCE_MS, LOADED_MS = 15_000, 5_000, 4_000, 5_000
"""as they are promised (keyspace.py, slots.lua, line.lua)"""
LOOKED_AT = 8
"""calls of one key and model, from the front, that a free slot is offered to"""
WEIGHTS = {
    "arrive": 34, "poll": 8, "end": 16, "hold": 8, "hold_stranger": 1, "load": 6, "wait": 6, "wait_long": 2, "pause": 5,
    "register": 3, "die": 1, "sync": 2, "leave_stranger": 1,
}  # fmt: skip


class Rules:
    """One fleet. `met` counts what has happened."""

    def __init__(self, bench: FleetBench, chance: Random) -> None:
        self.bench, self.chance = bench, chance
        self.met: Counter[str] = Counter()
        self.asks: dict[str, tuple[RedisPlacement, Ask]] = {}
        """calls whose replicas live, as they last asked"""
        self.again: set[str] = set()
        """calls whose slots were taken again when Redis had given them up"""
        self.strict = True
        """whether everybody who waits has asked since a load might have been forgotten"""
        self.limits = dict(NODES)
        """slots each node had, at most, when the last of its calls began"""
        self.number = 0

    async def begin(self) -> None:
        self.bench.redis.flushall()
        self.bench.set_clock(self.bench.now_ms)
        await self.bench.register(**NODES)

    async def step(self, what: str) -> None:
        before = self.bench.seen()
        await getattr(self, what)(before)
        self.met[what] += 1
        seen = self.bench.seen()
        self.check(before, seen)
        if what != "load":
            self._check_loads(before, seen)

    # what may happen

    async def arrive(self, before: Seen) -> None:
        self.number += 1
        one, replica = f"c{self.number}", self.chance.choice((self.bench.a, self.bench.b, self.bench.c))
        key, waits = self.chance.choice(list(KEYS)), self.chance.random() < 0.9
        wish = self.wish(one, key, self.chance.choice(MODELS))
        said = await replica.place(wish, depth_max=DEPTH_MAX, waits=waits)
        depth = before.depths.get(wish.model, 0)
        if isinstance(said, Placed):
            self.asks[one] = replica, wish
            self.met["placed"] += 1
            self.met["loads"] += said.loads
            (its,) = [its for its in wish.candidates if its.backend == said.backend]
            told = {"name": its.backend, "cold": int(its.state != "loaded")}
            assert said.loads == _needs_load(before, told, wish.model, self.bench.now_ms)
        elif isinstance(said, Full):
            assert DEPTH_MAX <= said.depth <= depth
            self.met["full"] += 1
        elif waits:
            self.asks[one] = replica, wish
            self.met["waits"] += 1
            assert 1 <= said.position <= sum(before.depths.values()) + 1
        else:
            assert one not in self.bench.seen().waiting

    async def poll(self, before: Seen) -> None:
        """Anybody asks again, in whatever state; twice is as once."""
        if self.asks:
            one = self.chance.choice(list(self.asks))
            replica, wish = self.asks[one]
            if self.chance.random() < 0.5:  # it knows more by now
                self.asks[one] = replica, self.wish(one, wish.key_id, wish.model)
            await self._poll(one)

    async def end(self, before: Seen) -> None:
        """Calls end, or their clients leave; sometimes it is said twice."""
        ours = list(self.asks)
        for one in self.chance.sample(ours, min(len(ours), self.chance.choice((1, 1, 1, 2, 4)))):
            figures = {"tokens": self.chance.choice((-1, 0, 10, 5_000)), "good": self.chance.random() < 0.7}
            await self.bench.leave(*[one] * self.chance.choice((1, 1, 2)), **figures)
            del self.asks[one]
            self.again.discard(one)

    async def hold(self, before: Seen) -> None:
        held = [one for one in self.asks if one in before.held]
        await self._hold(before, held)

    async def hold_stranger(self, before: Seen) -> None:
        """Redis has lost, or given up, a call that runs."""
        self.number += 1
        one, backend = f"c{self.number}", self.chance.choice(list(NODES))
        assert await self.bench.a.hold([(one, backend, MODELS[0], "k1", False)]) == 1
        self.asks[one] = self.bench.a, self.wish(one, "k1", MODELS[0])
        self.again.add(one)

    async def load(self, before: Seen) -> None:
        """A node has loaded a model; or one that nobody waited for."""
        loads = [(name, load.split(" ")[1]) for name, load in before.loads.items() if " " not in name]
        pair = self.chance.choice([*loads, ("n1", MODELS[0])])
        assert await self.bench.a.loaded([pair]) == (pair in loads)
        self.met["load ended"] += pair in loads

    async def wait(self, before: Seen) -> None:
        self.bench.tick(self.chance.choice((1, 100, 700)))
        await self._everybody_asks()

    async def wait_long(self, before: Seen) -> None:
        """Exactly as long as a lease lasts, and one ms less; those that live renew theirs meanwhile, some too late."""
        self.bench.tick(self.chance.choice((CLAIM_MS, PATIENCE_MS, LOADED_MS, SLOT_MS)) - self.chance.choice((0, 1)))
        await self._everybody_asks()

    async def pause(self, before: Seen) -> None:
        """Nothing is heard of anybody."""
        self.bench.tick(self.chance.choice((CLAIM_MS, PATIENCE_MS, SLOT_MS)))
        self.strict = False

    async def register(self, before: Seen) -> None:
        slots = {name: self.chance.choice((0, 1, 2, 3)) for name in NODES}
        await self.bench.register(**slots)

    async def die(self, before: Seen) -> None:
        """One replica is heard of no more: another one has its name afterwards."""
        dead = self.chance.choice((self.bench.a, self.bench.b, self.bench.c))
        self.asks = {one: known for one, known in self.asks.items() if known[0] is not dead}
        self.again &= set(self.asks)

    async def sync(self, before: Seen) -> None:
        news = await self.bench.b.sync(0, 0, rates=True, turns={"probe n1": 3_000})
        seen = self.bench.seen()
        assert {name: count for name, count in news.busy.items() if " " not in name} == {
            name: count for name, count in seen.busy.items() if " " not in name
        }
        assert news.depths == seen.depths

    async def leave_stranger(self, before: Seen) -> None:
        assert await self.bench.a.leave([]) == []
        await self.bench.leave("nobody")

    # what has to be so

    def check(self, before: Seen, seen: Seen) -> None:
        now = self.bench.now_ms
        self._check_slots(before, seen)
        assert all(depth <= DEPTH_MAX for depth in seen.depths.values())
        assert not set(seen.held) & set(seen.waiting), "it waits and runs"
        assert seen.depths == Counter(wish["model"] for wish in seen.waiting.values())
        assert sorted(seen.places) == sorted(wish["place"] for wish in seen.waiting.values())
        assert sorted(seen.arrivals) == sorted(place_.partition(" ")[2] for place_ in seen.places)
        assert set(seen.patience) == set(seen.waiting)
        assert set(seen.line) == {wish["key"] for wish in seen.waiting.values()}
        for key, at in seen.line.items():
            assert at == seen.served[key], "the line is not in the order of what was served"
        for name, load in ((name, load) for name, load in seen.loads.items() if " " not in name):
            one, model = load.split(" ")
            assert seen.held[one].l == 1, "a load that nobody waits for"
            assert (seen.held[one].b, seen.held[one].m) == (name, model)
        if not any(at <= now for at in (*seen.slots.values(), *seen.patience.values())):
            self._check_nobody_waits_for_nothing(seen, now)

    def _check_slots(self, before: Seen, seen: Seen) -> None:
        assert set(seen.slots) == set(seen.held)
        assert seen.busy == Counter(name for one in seen.held.values() for name in (one.b, f"{one.b} {one.m}"))
        for name in NODES:
            began = [one for one in seen.held_of(name) if one not in before.held and one not in self.again]
            if began:
                assert seen.busy[name] <= seen.capacity[name], f"{name} has more calls than slots"

    def _check_loads(self, before: Seen, seen: Seen) -> None:
        """Nobody began a second load where one was under way."""
        for name, load in ((name, load) for name, load in before.loads.items() if " " not in name):
            one = load.split(" ")[0]
            if one in seen.held and seen.held[one].t == before.held[one].t:
                assert seen.loads.get(name) == load

    def _check_nobody_waits_for_nothing(self, seen: Seen, now: int) -> None:
        fronts: Counter[str] = Counter()
        for place_ in sorted(seen.places):
            key, model, _, one = place_.split(" ")
            fronts[f"{key} {model}"] += 1
            wish = seen.waiting[one]
            if fronts[f"{key} {model}"] <= LOOKED_AT:
                idle = [its["name"] for its in wish["candidates"] if self._could_take(seen, wish, its, now, one)]
                assert not idle, f"{one} waits, and {idle} could take it"

    def _could_take(self, seen: Seen, wish: dict[str, Any], its: dict[str, Any], now: int, one: str) -> bool:
        if seen.capacity[its["name"]] <= seen.busy.get(its["name"], 0):
            return False
        if not _needs_load(seen, its, wish["model"], now):
            return True
        if its["name"] in seen.loads or not self.strict or one not in self.asks:
            return False
        return not any(
            seen.loads.get(other["name"], "").endswith(f" {wish['model']}")
            or not _needs_load(seen, other, wish["model"], now)
            for other in wish["candidates"]
        )

    async def _everybody_asks(self) -> None:
        """As replicas do every second: what they say of loads is as new as it is to them."""
        before = self.bench.seen()
        for one in list(self.asks):
            if one in before.waiting and self.chance.random() < 0.9:
                await self._poll(one)
        seen = self.bench.seen()
        await self._hold(seen, [one for one in seen.held if one in self.asks])
        for one in list(self.asks):
            if one not in self.bench.seen().held and one not in self.bench.seen().waiting:
                del self.asks[one]  # it was not heard of in time
        await self.bench.b.sync(0, 0, rates=False, turns={})
        self.strict = False
        for one in list(self.asks):
            if one in self.bench.seen().waiting:
                await self._poll(one)
        self.strict = True

    async def _poll(self, one: str) -> None:
        replica, wish = self.asks[one]
        before = self.bench.seen()
        said = await place(replica, wish, depth_max=DEPTH_MAX)
        if one in before.held and before.slots[one] > self.bench.now_ms:
            held = before.held[one]
            assert said == Placed(held.b, bool(held.l), bool(held.h)), "the same call gets another slot"
        if isinstance(said, Full):
            del self.asks[one]

    async def _hold(self, seen: Seen, ids: list[str]) -> None:
        held = [(one, seen.held[one]) for one in ids]
        loads = {load.split(" ")[0] for name, load in seen.loads.items() if " " not in name}
        await self.bench.a.hold([(one, its.b, its.m, its.k, one in loads) for one, its in held])

    def wish(self, one: str, key: str, model: str) -> Ask:
        names = self.chance.sample(list(NODES), self.chance.choice((1, 2, 3, 3, 3)))
        digests = tuple(f"d{self.chance.randrange(6)}" for _ in range(2))
        where = tuple(self._candidate(name) for name in names)
        return ask(
            one, *where, key=key, weight=KEYS.get(key, 1), model=model, tokens=self.chance.choice((1, 100, 999)),
            lookups=digests, records=digests,
        )  # fmt: skip

    def _candidate(self, name: str) -> Candidate:
        return candidate(
            name, slots=NODES[name], cold=self.chance.random() < 0.4, equal=self.chance.random() < 0.7,
            load_from=self.chance.choice((0, 1, 2, 9)),
        )  # fmt: skip


def _needs_load(seen: Seen, its: dict[str, Any], model: str, now: int) -> bool:
    done = float(seen.loads.get(f"{its['name']} {model}", "-inf"))
    return its["cold"] == 1 and now - done >= LOADED_MS


async def drive(bench: FleetBench, seed: str, episodes: int, steps: int = 60) -> Counter[str]:
    """What was met. Raises what a step raised, with the steps before it."""
    met: Counter[str] = Counter()
    for episode in range(episodes):
        chance = Random(f"{seed}:{episode}")
        rules, history = Rules(bench, chance), []
        await rules.begin()
        try:
            for what in chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps):
                history.append(f"{what} at {bench.now_ms}")
                await rules.step(what)
            await _all_gone(rules)
        except Exception as error:
            error.add_note(f"episode {episode}:\n" + "\n".join(history[-12:]))
            raise
        met += rules.met
    return met


async def _all_gone(rules: Rules) -> None:
    """Some leave, the others are forgotten: nothing is left."""
    ours = list(rules.asks)
    await rules.bench.leave(*rules.chance.sample(ours, len(ours) // 2))
    for _ in range(2):  # who is granted a slot when others are forgotten is forgotten next
        rules.bench.tick(SLOT_MS)
        await rules.bench.a.sync(0, 0, rates=False, turns={})
    assert rules.bench.left_over() == {}
