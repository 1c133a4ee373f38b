"""The fleet's functions in a real Redis, on a clock that the test moves, and what can be seen there."""

import json
from typing import Any

import redis
from msgspec import Struct

from gateway.core.fleet import Node, Registry
from gateway.core.placing import Ask, Full, Left, Placed, Waiting
from gateway.core.routing import Candidate
from gateway.state import keyspace
from gateway.state.functions import Functions, fleet_source
from gateway.state.placement import RedisPlacement
from gateway.state.registry import RegistryDirectory
from tests.fakes import AT_US, CLOCK_KEY, clocked

AT_MS = AT_US // 1000
M, OTHER = "m:latest", "other:latest"
DEPTH_MAX = 10_000
LASTING = ("registry", "capacity", "loads", "served", "rates", "prefixes", "ages", "nodes", "changes", "turns")
"""what is kept when nobody runs or waits"""


class Held(Struct, frozen=True):
    """A slot as Redis keeps it (slots.lua)."""

    b: str
    m: str
    k: str
    w: int
    t: float
    c: float
    l: int  # noqa: E741  its name in Redis
    h: int


class Seen(Struct, frozen=True):
    """Everything that Redis knows of slots and of the line."""

    slots: dict[str, float]
    held: dict[str, Held]
    busy: dict[str, int]
    loads: dict[str, str]
    capacity: dict[str, int]
    line: dict[str, float]
    places: list[str]
    arrivals: list[str]
    waiting: dict[str, dict[str, Any]]
    patience: dict[str, float]
    served: dict[str, float]
    depths: dict[str, int]

    def held_of(self, backend: str) -> list[str]:
        return [one for one, held in self.held.items() if held.b == backend]


class FleetBench:
    """Synchronous underneath, so nothing has to be waited for."""

    def __init__(self, url: str, library: str | None = None) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self._raw = redis.Redis.from_url(url)
        self.functions = Functions(self, clocked(library or fleet_source()))
        self.registry = RegistryDirectory(self.functions)
        self.a, self.b, self.c = (RedisPlacement(self.functions, replica) for replica in "abc")
        """three replicas"""
        self.calls = 0
        """commands that were sent by the functions' callers"""
        self._version = 0
        self.now_ms = 0
        self.set_clock(AT_MS)

    async def call(self, *command: Any) -> Any:
        self.calls += 1
        return self._raw.execute_command(*command)

    def set_clock(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.redis.hset(CLOCK_KEY, mapping={"s": now_ms // 1000, "us": now_ms % 1000 * 1000})

    def tick(self, ms: int) -> None:
        """Time passes, in which replicas ask something, as they do twice a second."""
        self.set_clock(self.now_ms + ms)
        self.redis.hset("{fleet}:registry", "seen", self.now_ms)

    async def register(self, **slots: int) -> None:
        """A newer registry: nodes with so many slots; 0: it is drained."""
        self._version += 1
        nodes = tuple(
            Node(name=name, url=f"http://{name}", slots=count or 1, draining=not count) for name, count in slots.items()
        )
        await self.registry.publish(Registry(version=self._version, nodes=nodes))

    async def leave(self, *ids: str, **figures: Any) -> None:
        await self.a.leave([Left(id=one, **figures) for one in ids])

    def seen(self) -> Seen:
        names = {name.partition(":")[2]: name for name in keyspace.fleet()}
        with self.redis.pipeline(transaction=True) as pipe:
            for kind in ("held", "busy", "loads", "capacity", "waiting", "served", "depths"):
                pipe.hgetall(names[kind])
            for kind in ("slots", "line", "places", "patience", "arrivals"):
                pipe.zrange(names[kind], 0, -1, withscores=True)
            held, busy, loads, capacity, waiting, served, depths, *sets = pipe.execute()
        slots, line, places, patience, arrivals = sets
        return Seen(
            slots=dict(slots),
            held={one: Held(**json.loads(text)) for one, text in held.items()},
            busy={name: int(count) for name, count in busy.items()},
            loads=loads,
            capacity={name: int(count) for name, count in capacity.items()},
            line=dict(line),
            places=[place for place, _ in places],
            arrivals=[place for place, _ in arrivals],
            waiting={one: json.loads(text) for one, text in waiting.items()},
            patience=dict(patience),
            served={key: float(at) for key, at in served.items()},
            depths={model: int(count) for model, count in depths.items()},
        )

    def everything(self) -> dict[str, Any]:
        """Every key of the fleet, whatever its order in memory."""
        found: dict[str, Any] = {}
        for name in self.redis.keys("{fleet}:*"):
            kind = self.redis.type(name)
            found[name] = (
                self.redis.hgetall(name) if kind == "hash" else self.redis.zrange(name, 0, -1, withscores=True)
            )
            found[f"{name} until"] = self.redis.pexpiretime(name)
        return found

    def left_over(self) -> dict[str, Any]:
        """What is there that should not be when nobody runs or waits."""
        found = {name.partition(":")[2]: value for name, value in self.everything().items()}
        loads = {name: load for name, load in found.get("loads", {}).items() if " " not in name}
        kept = {f"{kind}{more}" for kind in LASTING for more in ("", " until")}
        return {name: value for name, value in found.items() if name not in kept} | loads

    def close(self) -> None:
        self.redis.close()
        self._raw.close()


def candidate(name: str, *, slots: int = 1, cold: bool = False, equal: bool = True, load_from: int = 1) -> Candidate:
    return Candidate(
        backend=name,
        slots=slots,
        state="cold" if cold else "loaded",
        context_tokens=0,
        finish_ms=0,
        busy=0,
        equal=equal,
        load_from=load_from,
    )


def ask(
    one: str,
    *where: Candidate,
    key: str = "k1",
    weight: int = 1,
    model: str = M,
    tokens: int = 100,
    lookups: tuple[str, ...] = (),
    records: tuple[str, ...] = (),
    home_ms: int = 0,
) -> Ask:
    return Ask(
        id=one,
        key_id=key,
        weight=weight,
        model=model,
        tokens=tokens,
        candidates=list(where) or [candidate("n1")],
        lookups=list(lookups),
        records=list(records),
        home_ms=home_ms,
    )


async def place(
    where: RedisPlacement, wish: Ask, *, depth_max: int = DEPTH_MAX, waits: bool = True
) -> Placed | Waiting | Full:
    return await where.place(wish, depth_max=depth_max, waits=waits)
