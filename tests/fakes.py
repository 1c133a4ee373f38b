"""Stand-ins for what the pipeline needs of the world, and the real functions on a clock that tests move.

`FakeLeases` keeps the same contract suite as the real leases (tests/contract/test_leases.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import redis
from msgspec.structs import replace

from gateway.core import keys
from gateway.core.call import Admission, Bill, Call, Levels, Queued
from gateway.core.catalogue import ModelCard
from gateway.core.fleet import Alias
from gateway.core.keys import Credential
from gateway.core.limits import Estimate, Limits
from gateway.core.pricing import ANY, MICRO, Price, PriceList
from gateway.core.record import ApiKey, KeyRecord, Secret, Spent
from gateway.core.routing import Model
from gateway.core.tally import Tally
from gateway.dialects.asked import Asked
from gateway.dialects.ollama import GenerateRequest
from gateway.dialects.openai import chat_answer as openai_answer
from gateway.errors import BackendBusy, GatewayError, LimitsUnavailable, RequestsLimited, Unauthorized
from gateway.state.directory import KeyDirectory
from gateway.state.failures import Failures
from gateway.state.functions import Functions, source
from gateway.state.inspector import RedisInspector
from gateway.state.limiter import REFUSALS, RedisLimiter

KEY = keys.mint("llm", bytes(32))
STRANGER = keys.mint("llm", bytes(range(32)))
MODEL = "llama3.2:3b"
SOURCE = f"{0xFFFF7F000001:032x}"
"""127.0.0.1"""
FREE_FAILURES = 10**6
"""failures a minute, where a test is not about them"""
PRICES = (Price(model=ANY, valid_from_ms=0, per_request_micro=MICRO),)
AT_US = 1_795_292_735_107_000  # 2026-11-21
MONTH = "202611"


def credential_of(key: str) -> Credential:
    found = keys.Peppers().credential(key)
    assert found
    return found


def call_id(number: int) -> str:
    return f"019a0000-0000-7000-8000-{number:012x}"


def call(number: int = 1, **changes: Any) -> Call:
    """A call with the id of this number."""
    estimate = Estimate(prompt_max=20, prompt_expected=10, output_max=100)
    return replace(
        Call(
            id=call_id(number),
            credential=credential_of(KEY),
            source=SOURCE,
            endpoint="/v1/chat/completions",
            model=MODEL,
            streamed=True,
            by_line=changes.get("streamed", True),
            upstream=GenerateRequest(prompt="why?"),
            estimate=estimate,
            began_ms=0,
        ),
        **changes,
    )


def asked(**changes: Any) -> Asked:
    """The request behind `call`."""
    renderer = partial(openai_answer.Renderer, MODEL, False)
    return replace(
        Asked(model=MODEL, upstream=GenerateRequest(prompt="why?"), renderer=renderer, streamed=True), **changes
    )


async def turns(count: int) -> None:
    """Let everything else run for so many turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeLeases:
    """Keeps `ports.Leases` in memory, for one key with so many requests and no clock.

    `opening` and `closing`, where given, hold up every `open` and `close` until they are set. `on_close` hears of each
    settlement as it happens.
    """

    def __init__(
        self,
        requests: int = 10**9,
        opening: asyncio.Event | None = None,
        closing: asyncio.Event | None = None,
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        self._left = requests
        self._opening, self._closing, self._on_close = opening, closing, on_close
        self._open: dict[str, Admission] = {}
        self._ended: set[str] = set()
        self.cuts: list[Callable[[GatewayError], object]] = []
        """how each admitted call is told that its lease is lost"""
        self.closings: list[str] = []
        """the call id of every `close`, repeated ones included"""
        self.bills: list[Bill] = []
        """what was settled"""

    @property
    def running(self) -> int:
        return len(self._open)

    async def open(self, call: Call, tally: Tally, cut: Callable[[GatewayError], object], objection: str) -> Admission:
        if self._opening:
            await self._opening.wait()
        await asyncio.sleep(0)
        if call.credential != credential_of(KEY):
            raise Unauthorized
        if call.id in self._ended:
            raise LimitsUnavailable
        if call.id not in self._open:
            self._admit(call, objection)
            self.cuts.append(cut)
        return self._open[call.id]

    def _admit(self, call: Call, objection: str) -> None:
        if objection:
            raise REFUSALS[objection]()
        if not self._left:
            raise RequestsLimited(retry_after_s=1)
        self._left -= 1
        self._open[call.id] = Admission(0, call.estimate.output_max, Levels())

    def progressed(self, tally: Tally) -> None:
        pass

    async def close(self, call: Call, bill: Bill) -> None:
        self.closings.append(call.id)
        if self._closing:
            await self._closing.wait()
        await asyncio.sleep(0)
        if self._open.pop(call.id, None):
            self._ended.add(call.id)
            self.bills.append(bill)
            self._on_close()


class FakeObserver:
    """Keeps `ports.Observer` and what it hears."""

    def __init__(self) -> None:
        self.refusals: list[GatewayError] = []
        self.bills: list[Bill] = []
        self.surprises: list[Exception] = []

    def refused(self, endpoint: str, call_id: str, error: GatewayError, call: Call | None = None) -> None:
        self.refusals.append(error)

    def admitted(self, call: Call, admission: Admission) -> None:
        pass

    def ended(self, call: Call, admission: Admission, bill: Bill) -> None:
        self.bills.append(bill)

    def surprised(self, endpoint: str, call_id: str, error: Exception) -> None:
        self.surprises.append(error)


Step = bytes | Exception | asyncio.Event
"""bytes arrive, an exception is raised, an event is waited for"""


class FakeFleet:
    """Keeps `ports.Fleet` with one backend, whose answers are scripts.

    `head` happens before an answer begins, `body` while it runs, `tail` after the reader has had enough of it.
    """

    def __init__(self, *body: Step, head: Step | None = None, tail: Step | None = None, objection: str = "") -> None:
        self._body, self._head, self._tail, self._objection = body, head, tail, objection
        self.asked = 0
        self.left = 0
        """exchanges that are over"""
        self.caps: list[int] = []
        """the tokens each answer might have had"""
        self.fails_after = 10**9
        """how many exchanges succeed"""

    def objection(self, model: str) -> str:
        return self._objection

    turns_away = objection

    def alias(self, name: str) -> Alias | None:
        return None

    def aliases(self) -> list[Alias]:
        return []

    def models(self) -> list[ModelCard]:
        return [ModelCard(MODEL, Model(MODEL), 1)]

    def default_model(self) -> str | None:
        return MODEL

    @asynccontextmanager
    async def exchange(
        self, call: Call, admission: Admission, output_tokens_max: int, tally: Tally, told: Callable[[Queued], object]
    ) -> AsyncIterator["FakeExchange"]:
        self.asked += 1
        self.caps.append(output_tokens_max)
        tally.backend = "node"
        tally.sent(0)
        if self.asked > self.fails_after:
            self.left += 1
            raise BackendBusy
        try:
            await _take(self._head)
            yield FakeExchange(self._body)
            await _take(self._tail)
        finally:
            self.left += 1


class FakeExchange:
    """Keeps `ports.Exchange`."""

    def __init__(self, body: tuple[Step, ...]) -> None:
        self._body = body

    def leave(self) -> None:
        pass

    async def whole(self) -> bytes:
        pieces: list[bytes] = []
        await self.read(lambda piece: bool(pieces.append(piece)))
        return b"".join(pieces)

    async def read(self, take: Callable[[bytes], bool]) -> None:
        for step in self._body:
            if (piece := await _take(step)) and take(piece):
                return


async def _take(step: Step | None) -> bytes:
    await asyncio.sleep(0)
    if isinstance(step, asyncio.Event):
        await step.wait()
    if isinstance(step, Exception):
        raise step
    return step if isinstance(step, bytes) else b""


TIME_LINE = "redis.call('TIME')"
CLOCK_KEY = "{s00}:clock"


def clocked(library: str) -> str:
    """The functions, reading their time from a key instead of the server's clock. All else is as shipped."""
    assert library.count(TIME_LINE) == 1
    return library.replace(TIME_LINE, f"redis.call('HMGET', '{CLOCK_KEY}', 's', 'us')")


class Bench:
    """The real functions in a real Redis, on a clock that the test moves, with one key. Synchronous underneath."""

    def __init__(self, url: str, library: str | None = None) -> None:
        self.redis = redis.Redis.from_url(url)
        functions = Functions(self, clocked(library or source()))
        self.functions = functions
        self.failures = Failures(functions, 1, lambda: self.now_us // 1000, per_min=FREE_FAILURES)
        self.limiter = RedisLimiter(functions, 1)
        self.inspector = RedisInspector(functions, 1, self.failures)
        self.directory = KeyDirectory(self, functions, 1)
        self.version = 0
        self.now_us = AT_US
        self.set_clock(AT_US)

    async def call(self, *command: Any) -> Any:
        return self.redis.execute_command(*command)

    def set_clock(self, now_us: int) -> None:
        self.now_us = now_us
        self.redis.hset(CLOCK_KEY, mapping={"s": now_us // 1_000_000, "us": now_us % 1_000_000})

    def tick(self, us: int) -> None:
        self.set_clock(self.now_us + us)

    async def publish(self, limits: Limits, spent: Spent | None = None, key: str = KEY, **changes: Any) -> None:
        """A new version of the key, everything known and, unless there are others, the usual price."""
        self.version += 1
        await self.directory.publish_prices(PriceList(1, PRICES))
        figures = spent or Spent(month=MONTH)
        await self.directory.publish(record(limits, version=self.version, key=key, **changes), figures)
        assert await self.directory.mark_ready(0, await self.directory.begin(0))

    def everything(self) -> dict[bytes, bytes]:
        """Every key of the server and its bytes."""
        return {name: self.redis.dump(name) for name in sorted(self.redis.keys())}

    def hash(self, kind: str, key_id: str | None = None) -> dict[str, str]:
        """One of the key's hashes, by the kind in its name."""
        found = self.redis.hgetall(f"{{s00}}:{kind}:{key_id or credential_of(KEY).key_id}")
        return {name.decode(): value.decode() for name, value in found.items()}

    def events(self) -> list[dict[str, str]]:
        """The usage events, oldest first."""
        entries = self.redis.xrange("{s00}:usage")
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    def close(self) -> None:
        self.redis.close()


def record(
    limits: Limits, *, version: int = 1, key: str = KEY, multiplier_milli: int = 1_000, **changes: Any
) -> KeyRecord:
    """What a replica would know of the key."""
    digest, pepper_id = keys.Peppers().digest(key)
    one = ApiKey(
        id=credential_of(key).key_id,
        secrets=(Secret(digest=digest, pepper_id=pepper_id, last_four=key[-4:], created_at_ms=0),),
        version=version,
        limits=limits,
    )
    return KeyRecord(replace(one, **changes), limits, multiplier_milli)


async def refused(admission: Any) -> GatewayError:
    """The refusal that an admission must end in."""
    try:
        await admission
    except GatewayError as error:
        return error
    raise AssertionError("it was admitted")
