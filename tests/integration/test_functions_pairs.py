"""A hundred thousand reserve/settle pairs, three tenths of each sent twice, by another connection: all sums agree."""

import asyncio
import multiprocessing
import time
from collections import Counter
from random import Random
from typing import Any

import pytest
import redis
from msgspec import Struct
from msgspec.structs import replace

from gateway.core import pricing
from gateway.core.limits import Limits
from gateway.core.pricing import ANY, MICRO, Price, PriceList
from gateway.core.record import KeyRecord, Spent, Team
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Functions
from gateway.state.pipe import Pipe
from tests.fakes import MODEL, record
from tests.integration.hammer import Prepared, send
from tests.integration.prepared import admission, settlement

PAIRS = 100_000
TWICE = 0.3
PROCESSES = 4
TOKENS_MAX = 3_000
READ_EVENTS = 10_000
REDIS_TIMEOUT_MS = 5_000
SECONDS_MAX = 300
PRICE = Price(
    model=MODEL, valid_from_ms=0, per_request_micro=1, per_1k_prompt_micro=333_333, per_1k_completion_micro=999_999
)
FLAT = Price(model=ANY, valid_from_ms=0, per_request_micro=MICRO)
TEAMS = ("team000001", "team000002")


class Key(Struct, frozen=True):
    """One of those that call: in which team, by which multiplier, with credits of its own or not."""

    id: str
    team: str
    multiplier_milli: int
    metered: bool


class One(Struct, frozen=True):
    """A call: whose, and what it came to."""

    id: str
    key: Key
    prompt: int
    completion: int
    paid: bool

    @property
    def price(self) -> int:
        return pricing.cost(pricing.with_multiplier(PRICE, self.key.multiplier_milli), self.prompt, self.completion)


KEYS = [
    Key(f"key{number:07d}", ("", *TEAMS)[number % 3], (1_000, 2_000, 1_500)[number % 3], number % 2 == 0)
    for number in range(12)
]


def limits_of(metered: bool) -> dict[str, Any]:
    return {"metered": metered, "granted_micro": pricing.CREDITS_MICRO_MAX // 2 if metered else 0}


async def prepare(url: str) -> dict[Key, tuple[Prepared, Prepared, Prepared]]:
    """Publishes all; how each key's calls are admitted, settled and paid, settled and not paid."""
    pipe = Pipe(url, REDIS_TIMEOUT_MS)
    pipe.start()
    directory = KeyDirectory(pipe, Functions(pipe), 1)
    await directory.publish_prices(PriceList(1, (PRICE, FLAT)))
    nothing, limits = Spent(month=""), Limits(tokens_per_min=99_999_999)
    for number, team in enumerate(TEAMS):
        await directory.publish_team(Team(id=team, limits=limits, **limits_of(number == 0)), nothing)
    for key in KEYS:
        one = replace(record(limits).key, id=key.id, team_id=key.team or None, **limits_of(key.metered))
        await directory.publish(KeyRecord(one, limits, key.multiplier_milli), nothing)
    assert await directory.mark_ready(0, await directory.begin(0))
    await pipe.close()
    return {
        key: (
            await admission(key.id, key.team, prompt_max=TOKENS_MAX, output_max=TOKENS_MAX),
            await settlement(key.id, key.team, paid=True),
            await settlement(key.id, key.team, paid=False),
        )
        for key in KEYS
    }


def some_calls(chance: Random) -> list[One]:
    return [
        One(
            f"019a0000-0000-7000-8000-{number:012x}",
            chance.choice(KEYS),
            chance.randint(0, TOKENS_MAX),
            chance.choice((0, 1, 999, 1_000, chance.randint(0, TOKENS_MAX))),
            chance.random() < 0.9,
        )
        for number in range(PAIRS)
    ]


def shuffled(
    calls: list[One], commands: dict[Key, tuple[Prepared, Prepared, Prepared]], chance: Random
) -> tuple[list[list[bytes]], int, int]:
    """What each process sends. Each pair in its order, some way apart; what is sent twice anywhere, also before."""
    sent: list[list[tuple[float, bytes]]] = [[] for _ in range(PROCESSES)]
    admits = settles = 0
    for number, one in enumerate(calls):
        admit_of, paid, free = commands[one.key]
        admit = admit_of.of(one.id, 1)
        settle = (paid if one.paid else free).of(one.id, one.prompt, one.completion)
        mine, at = sent[number % PROCESSES], float(number)
        mine += [(at, admit), (at + chance.random() * 1_000, settle)]
        if chance.random() < TWICE:
            admits += 1
            chance.choice(sent).append((at + chance.uniform(-1_000, 2_000), admit))
        if chance.random() < TWICE:
            settles += 1
            chance.choice(sent).append((at + chance.uniform(-1_000, 2_000), settle))
    return [[command for _, command in sorted(one)] for one in sent], admits, settles


def sums(calls: list[One], owner: str) -> Counter[str]:
    """Of a key or a team: tokens, and the credits that it pays itself."""
    found = Counter[str]()
    payers = {TEAMS[0]} | {key.id for key in KEYS if key.metered}
    for one in calls:
        if owner in (one.key.id, one.key.team):
            found["tokens"] += one.prompt + one.completion
            found["credits"] += one.price if one.paid and owner in payers else 0
    return found


def streamed(client: Any) -> dict[str, Counter[str]]:
    """The same from the usage events."""
    found: dict[str, Counter[str]] = {}
    start = "-"
    while entries := client.xrange("{s00}:usage", min=start, count=READ_EVENTS):
        start = f"({entries[-1][0].decode()}"
        for _, event in entries:
            for owner, credits in ((b"key", b"credits"), (b"team", b"team_credits")):
                one = found.setdefault(event[owner].decode(), Counter())
                one["tokens"] += int(event[b"prompt"]) + int(event[b"completion"])
                one["credits"] += int(event[credits])
    return found


def account(client: Any, owner: str) -> dict[str, int]:
    """Sums over all months, should one turn meanwhile."""
    name = f"{{s00}}:team-account:{owner}" if owner in TEAMS else f"{{s00}}:account:{owner}"
    found = Counter[str]()
    for field, number in client.hgetall(name).items():
        found[field.decode().partition(":")[0]] += int(number)
    return found


def race(url: str, sent: list[list[bytes]]) -> list[list[Any]]:
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as processes:
        return processes.starmap(send, [(url, commands) for commands in sent], chunksize=1)


@pytest.mark.timeout(SECONDS_MAX)
def test_month_credits_stream_and_what_was_used_are_one(redis_url: str, seed: str) -> None:
    chance = Random(seed)
    commands = asyncio.run(prepare(redis_url))
    calls = some_calls(chance)
    sent, admits, settles = shuffled(calls, commands, chance)
    began = time.monotonic()
    replies = [reply for each in race(redis_url, sent) for reply in each]
    seconds = time.monotonic() - began
    settled = sum(reply[0] for reply in replies if len(reply) <= 3)
    print(
        f"\n{PAIRS:,} pairs, {admits:,} admissions and {settles:,} settlements sent twice, from {PROCESSES} processes "
        f"in {seconds:.0f} s: {len(replies) / seconds:,.0f} calls a second"
    )
    assert min(admits, settles) > 0.9 * TWICE * PAIRS
    assert settled == PAIRS
    with redis.Redis.from_url(redis_url) as client:
        assert client.xlen("{s00}:usage") == PAIRS
        stream = streamed(client)
        for owner in [key.id for key in KEYS] + list(TEAMS):
            expected, found = sums(calls, owner), account(client, owner)
            assert (found["spent"], found["charged"]) == (expected["tokens"], expected["credits"])
            assert stream[owner] == expected
            assert (found["held"], found["credit_held"]) == (0, 0)
        assert not client.keys("*running*")
        assert client.zcard("{s00}:leases") == 0
        late = sent[0][:1_000]
        before = client.xlen("{s00}:usage"), [client.hgetall(name) for name in sorted(client.keys("*account*"))]
        send(redis_url, late)
        after = client.xlen("{s00}:usage"), [client.hgetall(name) for name in sorted(client.keys("*account*"))]
        assert after == before, "an hour is not over"
