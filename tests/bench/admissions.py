"""How many calls one Redis can carry: the gateway's own functions on a call's way, in batches, and their CPU time."""

import time
from collections.abc import Awaitable, Callable

import redis.asyncio
from msgspec import Struct

from gateway.core.call import Bill, Call
from gateway.core.ids import ENTROPY_BYTES, uuid7
from gateway.core.keys import Peppers
from gateway.core.placing import Ask, Left, Placed
from gateway.core.routing import Candidate
from gateway.core.tally import if_lost
from gateway.core.usage import Detail, detail_json
from gateway.state.functions import Functions, fleet_source
from gateway.state.limiter import RedisLimiter
from gateway.state.placement import RedisPlacement
from tests.bench import meter, processor
from tests.bench.batches import Batches
from tests.bench.finding import ERRORS, Finding
from tests.bench.gateway import PEPPER, SLOTS
from tests.bench.meter import Meter
from tests.bench.sample import FOREIGN_SHARE_MAX
from tests.bench.scenario import QUICK_MODEL, REDIS
from tests.bench.system import System
from tests.fakes import call

CALLS = 10_000
OPEN = 500
"""calls under way at a time: fewer than a node has slots"""
AT_ONCE = 50
"""commands in a pipeline, about as many as a busy replica sends in a turn of its loop"""
TOKENS = 46
DEPTH_MAX = 1_000
BILL = Bill(
    prompt_tokens=12,
    completion_tokens=34,
    paid=True,
    estimated=False,
    whole=True,
    detail=Detail(model=QUICK_MODEL, endpoint="/v1/chat/completions", backend="node", response_time_ms=12),
)
Asking = Callable[[Call], Awaitable[bool]]


class Verb(Struct, frozen=True):
    """One function. `asked` with a call, it says whether it did what it is for."""

    name: str
    asked: Asking


class Admissions:
    """Calls that nobody makes, of the run's own key, on the node that answers at once; they end as rows like others."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._meter = Meter(system)

    async def measure(self) -> list[Finding]:
        pids = self._system.pids(REDIS)
        async with redis.asyncio.Redis.from_url(self._system.valkey.tcp_url) as client:
            batches = Batches(client, AT_ONCE)
            verbs = self._verbs(batches)
            used_ns = dict.fromkeys((verb.name for verb in verbs), 0)
            failed = 0
            began = self._meter.usage(pids)
            for first in range(0, CALLS, OPEN):
                calls = self._calls(first)
                for verb in verbs:
                    before_ns = processor.cpu_ns(pids)
                    failed += (await batches.all([verb.asked(one) for one in calls])).count(False)
                    used_ns[verb.name] += processor.cpu_ns(pids) - before_ns
            noisy = meter.foreign_share(began, self._meter.usage(pids)) > FOREIGN_SHARE_MAX
        self._system.settled_elsewhere(CALLS)
        return _findings({name: ns / 1e3 / CALLS for name, ns in used_ns.items()}, failed, noisy=noisy)

    def _verbs(self, batches: Batches) -> list[Verb]:
        """In the order of a call's life."""
        limiter = RedisLimiter(Functions(batches), 1)
        placement = RedisPlacement(Functions(batches, fleet_source()), "bench")

        async def admit(one: Call) -> bool:
            return bool(await limiter.admit(one, "", detail_json(if_lost(one))))

        async def place(one: Call) -> bool:
            return isinstance(await placement.place(self._ask(one), depth_max=DEPTH_MAX, waits=True), Placed)

        async def settle(one: Call) -> bool:
            return await limiter.settle(one, BILL)

        async def leave(one: Call) -> bool:
            return (await placement.leave([_left(one)]))[0] is not None

        return [Verb("admit", admit), Verb("place", place), Verb("settle", settle), Verb("leave", leave)]

    def _ask(self, one: Call) -> Ask:
        """As a replica asks whose prompts are of one message, and never the same one."""
        host, port = self._system.nodes.quick
        node = Candidate(
            backend=f"{host}:{port}", slots=SLOTS, state="loaded", context_tokens=0, finish_ms=10, busy=0, equal=True,
            load_from=1,
        )  # fmt: skip
        digest = one.id.replace("-", "")[-16:]
        return Ask(
            id=_attempt(one), key_id=one.credential.key_id, weight=1, model=one.model, tokens=TOKENS, candidates=[node],
            lookups=[digest], records=[digest],
        )  # fmt: skip

    def _calls(self, first: int) -> list[Call]:
        credential = Peppers(PEPPER).credential(self._system.key)
        assert credential
        now_ms = time.time_ns() // 10**6
        ids = (uuid7(now_ms, number.to_bytes(ENTROPY_BYTES, "big")) for number in range(first, first + OPEN))
        return [call(credential=credential, model=QUICK_MODEL, id=one) for one in ids]


def _attempt(one: Call) -> str:
    return f"{one.id}.0.1"


def _left(one: Call) -> Left:
    return Left(
        id=_attempt(one), tokens=TOKENS, prompt_tokens=12, prompt_ms=1.5, output_tokens=34, output_ms=30.5, good=True
    )


def _findings(us: dict[str, float], failed: int, *, noisy: bool) -> list[Finding]:
    names = ", ".join(us)
    found = {f"CPU us to {name}": each_us for name, each_us in us.items()}
    found[f"CPU us a call: {names}"] = sum(us.values())
    found["calls a second that fill the core of one Redis with all of these"] = 1e6 / max(1e-9, sum(us.values()))
    found[ERRORS] = failed
    return [Finding(REDIS, REDIS, what, value, noisy) for what, value in found.items()]
