"""Replies of Redis get lost: what was charged is what was admitted, and nobody gets another one's answer."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.core.call import Bill, Call
from gateway.core.limits import Limits
from gateway.core.pricing import MICRO, PriceList
from gateway.core.record import Spent
from gateway.core.tally import Tally
from gateway.core.usage import Detail
from gateway.dev.valkey import EmbeddedValkey
from gateway.errors import GatewayError, LimitsUnavailable
from gateway.state.directory import KeyDirectory
from gateway.state.failures import Failures
from gateway.state.functions import Functions
from gateway.state.leases import RedisLeases
from gateway.state.limiter import RedisLimiter
from gateway.state.pipe import Pipe
from tests.fakes import FREE_FAILURES, KEY, PRICES, call, credential_of, record
from tests.proxies import FaultProxy, Loss, replies_in

CALLS = 10_000
REPLICAS = 25
AT_ONCE = 4
"""calls that one replica has open at a time"""
LOST = 0.1
TIMEOUT_MS = 100
DECISION_MS = 100
FLUSH_S = 60.0
KEY_ID = credential_of(KEY).key_id
MONTHLY = 10**12


def test_replies_are_told_apart_whatever_they_hold_and_however_they_arrive() -> None:
    each = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$6\r\na\r\nb\r\n\r\n",
        b"*3\r\n:1\r\n*2\r\n$0\r\n\r\n+x\r\n$1\r\na\r\n",
        b"%1\r\n+a\r\n*0\r\n",
        b"|1\r\n+a\r\n:1\r\n+after\r\n",
    ]
    whole = b"".join(each)
    assert replies_in(whole) == (each, b"")
    for end in range(len(whole)):
        found, rest = replies_in(whole[:end])
        assert found == each[: len(found)]
        assert b"".join(found) + rest == whole[:end]


@pytest.fixture
async def valkey(short_dir: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(short_dir)
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def losing(valkey: EmbeddedValkey, chance: random.Random, loss: Loss) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(str(valkey.socket), chance, LOST, loss)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


async def publish(valkey: EmbeddedValkey) -> None:
    """One key with credits, and prices, written past the proxy."""
    pipe = Pipe(valkey.url, 5_000)
    pipe.start()
    directory = KeyDirectory(pipe, Functions(pipe), 1)
    await directory.publish_prices(PriceList(1, PRICES))
    limits = Limits(rate_limit_per_min=1_000_000, tokens_per_min=99_999_999, monthly_token_limit=MONTHLY)
    spent = Spent(month="202611")
    await directory.publish(record(limits, metered=True, granted_micro=10 * CALLS * MICRO), spent)
    assert await directory.mark_ready(0, await directory.begin(0))
    await pipe.close()


class Replica:
    """Admits and settles over the proxy, and remembers what it was told."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self._pipe = Pipe(url, TIMEOUT_MS)
        functions = Functions(self._pipe)
        failures = Failures(functions, 1, _now_ms, per_min=FREE_FAILURES)
        self._leases = RedisLeases(
            RedisLimiter(functions, 1), failures, _now_ms, lambda call: None, decision_ms=DECISION_MS
        )
        self._chance = chance
        self.settled: dict[str, Bill] = {}
        self.refused: set[str] = set()
        self.errors: Counter[str] = Counter()

    async def run(self, calls: list[Call]) -> None:
        self._pipe.start()
        renewing = asyncio.create_task(self._leases.run())
        line = iter(calls)
        await asyncio.gather(*(self._some(line) for _ in range(AT_ONCE)))
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)

    async def _some(self, line: Any) -> None:
        for one in line:
            tally = Tally(one)
            try:
                await self._leases.open(one, tally, lambda error: None, "")
            except GatewayError as error:
                self.refused.add(one.id)
                self.errors[type(error).__name__] += 1
                continue
            bill = _bill(self._chance.randint(0, 50), paid=self._chance.random() < 0.8)
            self.settled[one.id] = bill
            await self._leases.close(one, bill)

    async def end(self) -> int:
        """Settle what is owed. How many still are."""
        await self._leases.flush(FLUSH_S)
        await self._pipe.close()
        return self._leases.unsettled + self._leases.running


@pytest.mark.parametrize("loss", ["close", "swallow"])
async def test_a_tenth_of_all_replies_lost_and_what_was_charged_is_what_was_admitted(
    valkey: EmbeddedValkey, seed: str, loss: Loss
) -> None:
    chance = random.Random(seed)
    await publish(valkey)
    began = time.monotonic()
    async with losing(valkey, chance, loss) as proxy:
        replicas = [Replica(proxy.url, chance) for _ in range(REPLICAS)]
        calls = [call(number) for number in range(CALLS)]
        await asyncio.gather(*(one.run(calls[number::REPLICAS]) for number, one in enumerate(replicas)))
        proxy.heal()
        owed = [await one.end() for one in replicas]
    settled = {id: bill for one in replicas for id, bill in one.settled.items()}
    refused = {id for one in replicas for id in one.refused}
    print(
        f"{loss}: {proxy.lost} of {proxy.lost + proxy.passed} replies lost; {len(settled)} admitted, {len(refused)} "
        f"refused and voided, in {time.monotonic() - began:.1f} s"
    )
    assert proxy.lost > CALLS / 20
    assert owed == [0] * REPLICAS
    assert sum((one.errors for one in replicas), Counter()).keys() <= {LimitsUnavailable.__name__}
    assert len(settled) + len(refused) == CALLS
    assert min(len(settled), len(refused)) > 0
    _check(valkey, settled)


def _check(valkey: EmbeddedValkey, settled: dict[str, Bill]) -> None:
    """Redis holds what was settled, of each call once, and nothing of any other."""
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        events = {fields["id"]: fields for _, fields in client.xrange("{s00}:usage")}  # type: ignore[union-attr]
        assert client.xlen("{s00}:usage") == len(events)
        assert events.keys() == settled.keys()
        for id, bill in settled.items():
            event = events[id]
            assert int(event["completion"]) == bill.completion_tokens
            assert int(event["credits"]) == (MICRO if bill.paid else 0)
        account: Any = client.hgetall(f"{{s00}}:account:{KEY_ID}")
        month = next(iter(events.values()))["month"]
        tokens = sum(bill.prompt_tokens + bill.completion_tokens for bill in settled.values())
        assert int(account["charged"]) == sum(bill.paid for bill in settled.values()) * MICRO
        assert int(account[f"spent:{month}"]) == tokens
        assert int(account[f"held:{month}"]) == 0
        assert int(account["credit_held"]) == 0
        assert client.zcard("{s00}:leases") == 0
        assert client.zcard(f"{{s00}}:running:{KEY_ID}") == 0


@pytest.mark.parametrize("loss", ["close", "swallow"])
async def test_a_lost_reply_never_makes_another_ones_reply_the_answer(
    valkey: EmbeddedValkey, seed: str, loss: Loss
) -> None:
    chance = random.Random(seed)
    async with losing(valkey, chance, loss) as proxy:
        proxy.share = 0.02  # or no batch would come through whole
        url = f"{proxy.url}?socket_timeout={TIMEOUT_MS / 1000}"
        pipe = Pipe(url, 20 * TIMEOUT_MS)  # patient callers would take what they are given
        pipe.start()
        answers: Counter[bool] = Counter()

        async def one(number: int) -> None:
            value = f"{number}".encode()
            try:
                assert await pipe.call("ECHO", value) == value
                answers[True] += 1
            except LimitsUnavailable:
                answers[False] += 1

        for start in range(0, 1_000, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))
        proxy.heal()
        await one(-1)
        await pipe.close()
    assert min(answers.values()) > 0
    assert proxy.lost > 0


def _bill(completion: int, *, paid: bool) -> Bill:
    return Bill(prompt_tokens=10, completion_tokens=completion, paid=paid, estimated=False, whole=True, detail=Detail())


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
