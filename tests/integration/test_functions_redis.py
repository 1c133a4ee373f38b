"""The functions as a library on a real Redis: its text, its loading, its clock, concurrency, and a full server."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from fractions import Fraction
from importlib.resources import files
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from gateway.core.call import Bill
from gateway.core.limits import Estimate, Limits
from gateway.core.record import Spent
from gateway.core.usage import Detail
from gateway.errors import GatewayError, KeysNotLoaded, LimitsUnavailable
from gateway.state.directory import KeyDirectory
from gateway.state.functions import NAME, VERBS, Functions, source
from gateway.state.limiter import RedisLimiter
from gateway.state.pipe import Pipe
from tests.buckets import kept, per_minute
from tests.fakes import KEY, MONTH, Bench, call, credential_of, record

TIMEOUT_MS = 5_000
KEY_ID = credential_of(KEY).key_id
LUA = {verb: (files("gateway.state") / "lua" / f"{verb}.lua").read_text("utf-8") for verb in VERBS}
each_verb = pytest.mark.parametrize("verb", VERBS)


def test_time_is_asked_once_of_redis_and_of_nobody_else() -> None:
    text = source()
    assert text.count("redis.call('TIME')") == 1
    assert not re.search(r"ARGV\[\d+\][^\n]*\b(now|clock|time)\b", text.lower())
    assert "os.time" not in text
    assert "os.clock" not in text


@each_verb
def test_the_clock_is_read_once_a_call(verb: str) -> None:
    assert LUA[verb].count("clock()") == (0 if verb in ("bury", "publish", "replay", "reprice") else 1)


@each_verb
def test_every_function_says_what_it_takes_and_what_it_returns(verb: str) -> None:
    header, _, code = LUA[verb].removeprefix("--[[").partition("]]\n")
    assert "Returns" in header
    for kind in ("KEYS", "ARGV"):
        lines = " ".join(line for line in header.splitlines() if re.match(rf"\s+{kind}\[", line))
        named = {int(number) for number in re.findall(r"\[(\d+)(?:\.\.)?\]", lines)}
        used = {int(number) for number in re.findall(rf"{kind}\[(\d+)\]", code)}
        assert used <= named, f"{kind} of {verb}"
        assert named == set(range(1, len(named) + 1))


@each_verb
def test_every_function_is_registered_under_its_name(verb: str) -> None:
    assert f"'{NAME}_{verb}'" in LUA[verb]


def test_only_keys_that_were_declared_are_touched() -> None:
    """A name made inside a function works on one server and breaks on a cluster."""
    declared = r"KEYS\[\d\]|(owner\.)?names\.\w+|key|ready|lease|leases|running|stream|usage|dead"
    for argument in re.findall(r"redis\.call\('(?:MEMORY', ')?[A-Z]+',\s*([^,)]+)", source()):
        assert re.fullmatch(declared, argument.strip()), argument
    assert not re.findall(r"[{]s\d|:(key|account|buckets|running|team|lease)", source())


@pytest.fixture
async def pipe(redis_url: str) -> AsyncIterator[Pipe]:
    one = Pipe(redis_url, TIMEOUT_MS)
    one.start()
    yield one
    await one.close()


@pytest.fixture
def client(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url) as one:
        yield one


def contents(client: Any) -> dict[bytes, bytes]:
    return {name: client.dump(name) for name in client.scan_iter()}


async def publish(pipe: Pipe, limits: Limits) -> RedisLimiter:
    """The key with these limits, and the limiter."""
    functions = Functions(pipe)
    directory = KeyDirectory(pipe, functions, 1)
    await directory.publish(record(limits), Spent(month=MONTH))
    assert await directory.mark_ready(0, await directory.begin(0))
    return RedisLimiter(functions, 1)


def bill(tokens: int) -> Bill:
    return Bill(prompt_tokens=0, completion_tokens=tokens, paid=True, estimated=False, whole=True, detail=Detail())


async def test_functions_that_are_not_there_are_loaded_by_whoever_needs_them(pipe: Pipe, client: Any) -> None:
    limiter = await publish(pipe, Limits(rate_limit_per_min=9))
    assert (await limiter.admit(call(1), "", b"{}")).levels.requests.left == 8  # type: ignore[union-attr]
    for number in (2, 3):
        client.function_flush()
        assert (await limiter.admit(call(number), "", b"{}")).levels.requests.left == 9 - number  # type: ignore[union-attr]


async def test_many_who_find_no_functions_at_once_all_get_their_answer(pipe: Pipe, client: Any) -> None:
    limiter = await publish(pipe, Limits(rate_limit_per_min=60))
    client.function_flush()
    await asyncio.gather(*(limiter.admit(call(number), "", b"{}") for number in range(60)))
    assert client.zcard("{s00}:leases") == 60


async def test_loading_again_changes_nothing(pipe: Pipe, client: Any) -> None:
    functions = Functions(pipe)
    await functions.load()
    before = client.function_list(functions.library, True)
    await functions.load()
    assert client.function_list(functions.library, True) == before
    assert len(before) == 1


async def test_a_server_without_keys_has_no_verdict(pipe: Pipe) -> None:
    with pytest.raises(KeysNotLoaded):
        await RedisLimiter(Functions(pipe), 1).admit(call(1), "", b"{}")


async def test_a_function_that_fails_is_no_verdict(pipe: Pipe) -> None:
    with pytest.raises(LimitsUnavailable):
        await Functions(pipe).call("admit", ["{s00}:x"] * 8, ["no", "numbers"] * 6)
    with pytest.raises(LimitsUnavailable):
        await Functions(pipe, f"#!lua name={NAME}\nthis is no lua").call("admit", [], [])


async def test_two_versions_run_beside_each_other(pipe: Pipe, client: Any) -> None:
    old, new = Functions(pipe), Functions(pipe, source() + "\n-- newer")
    assert old.library != new.library
    for functions in (old, new, old):
        await RedisLimiter(functions, 1).void(call(1))
    assert len(client.function_list("llmgw_*")) == 2


async def test_a_key_of_another_type_is_no_verdict_and_nothing_is_written(pipe: Pipe, client: Any) -> None:
    limiter = await publish(pipe, Limits(rate_limit_per_min=9))
    client.set(f"{{s00}}:running:{KEY_ID}", "not a sorted set")
    client.set(f"{{s00}}:account:{KEY_ID}", "not a hash")
    before = contents(client)
    with pytest.raises(LimitsUnavailable):
        await limiter.admit(call(1), "", b"{}")
    assert contents(client) == before


async def test_a_full_server_lets_nobody_in_and_still_settles_what_runs(pipe: Pipe, client: Any) -> None:
    limiter = await publish(pipe, Limits(rate_limit_per_min=9))
    for number in (1, 2, 3):
        await limiter.admit(call(number), "", b"{}")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(LimitsUnavailable):
            await limiter.admit(call(4), "", b"{}")
        assert await limiter.renew(call(2), 1, 1) is None
        await limiter.settle(call(1), bill(5))
        await limiter.void(call(3))
        await limiter.void(call(4))
        assert client.zcard(f"{{s00}}:running:{KEY_ID}") == 1
    finally:
        client.config_set("maxmemory", 0)
    assert client.xlen("{s00}:usage") == 1
    assert (await limiter.admit(call(5), "", b"{}")).levels.requests.left == 6  # type: ignore[union-attr]


async def test_the_shipped_library_goes_by_the_servers_clock(pipe: Pipe, client: Any) -> None:
    limiter = await publish(pipe, Limits(rate_limit_per_min=9))
    (before, _), admitted, (after, _) = client.time(), await limiter.admit(call(1), "", b"{}"), client.time()
    assert before * 1_000 <= admitted.at_ms < (after + 1) * 1_000


async def test_lost_data_is_no_verdict(redis_url: str) -> None:
    bench = Bench(redis_url)
    await bench.publish(Limits(rate_limit_per_min=9))
    await bench.limiter.admit(call(1), "", b"{}")
    bench.redis.flushall()
    bench.set_clock(bench.now_us)
    await bench.limiter.settle(call(1), bill(1))
    with pytest.raises(KeysNotLoaded):
        await bench.limiter.admit(call(1), "", b"{}")
    bench.close()


CLIENTS, CALLS_EACH = 4, 250
TPM, RPM = 6_000_000, 60_000


class Hammer:
    """One replica: admits and settles at random, and remembers what it was let take."""

    def __init__(self, limiter: RedisLimiter, number: int, chance: random.Random) -> None:
        self._limiter, self._number, self._chance = limiter, number, chance
        self.taken = self.admitted = self.settled = self.refused = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._call(self._number * CALLS_EACH + number) for number in range(CALLS_EACH)))

    async def _call(self, number: int) -> None:
        expected = self._chance.randint(1, 400)
        one = call(number, estimate=Estimate(1, expected, 0))
        try:
            await self._limiter.admit(one, "", b"{}")
        except GatewayError:
            self.refused += 1
            return
        self.admitted += 1
        tokens = self._chance.choice([0, expected, self._chance.randint(0, 800)])
        for _ in range(self._chance.randint(1, 2)):  # a lost reply is asked for again
            await self._limiter.settle(one, bill(tokens))
        self.settled += 1
        self.taken += tokens


def bucket(client: Any, kind: str) -> tuple[int, int]:
    """Level and microsecond of the last write."""
    found = kept(client.hget(f"{{s00}}:buckets:{KEY_ID}", kind))
    return found.level, found.at_us


async def test_four_replicas_on_one_key_lose_and_make_no_token(redis_url: str, client: Any, seed: str) -> None:
    """Reliability 5.7: what was taken and what is left is what was there and what was refilled, to the unit."""
    pipes = [Pipe(redis_url, TIMEOUT_MS) for _ in range(CLIENTS)]
    for one in pipes:
        one.start()
    limiter = await publish(pipes[0], Limits(rate_limit_per_min=RPM, tokens_per_min=TPM))
    drain = TPM - 60_000  # so little is left that some are refused, and nothing is ever cut off at full
    await limiter.admit(call(10**6, estimate=Estimate(1, drain, 0)), "", b"{}")
    (tokens_before, tokens_at), (requests_before, requests_at) = bucket(client, "tokens"), bucket(client, "requests")
    hammers = [
        Hammer(RedisLimiter(Functions(one), 1), number, random.Random(f"{seed}{number}"))
        for number, one in enumerate(pipes)
    ]
    await asyncio.gather(*(hammer.run() for hammer in hammers))

    tokens, requests = per_minute(TPM), per_minute(RPM)
    taken, admitted = (sum(getattr(one, name) for one in hammers) for name in ("taken", "admitted"))
    tokens_after, at = bucket(client, "tokens")
    assert tokens_after < tokens.full, "nothing was cut off"
    assert taken * tokens.den + tokens_after == tokens_before + (at - tokens_at) * tokens.num
    requests_after, at = bucket(client, "requests")
    assert admitted * requests.den + requests_after <= requests_before + (at - requests_at) * requests.num
    assert admitted <= RPM + Fraction((at - requests_at) * requests.num, requests.den)
    assert client.xlen("{s00}:usage") == admitted == sum(one.settled for one in hammers)
    assert client.zcard("{s00}:leases") == 1
    assert sum(one.refused for one in hammers) + admitted == CLIENTS * CALLS_EACH
    assert client.hget(f"{{s00}}:account:{KEY_ID}", f"spent:{_month(client)}") == str(taken).encode()
    for one in pipes:
        await one.close()


def _month(client: Any) -> str:
    ((_, fields),) = client.xrange("{s00}:usage", count=1)
    return str(fields[b"month"].decode())


async def test_a_limit_of_requests_is_exact_over_replicas(redis_url: str, client: Any) -> None:
    pipes = [Pipe(redis_url, TIMEOUT_MS) for _ in range(CLIENTS)]
    for one in pipes:
        one.start()
    limit = Limits(rate_limit_per_min=1)
    await publish(pipes[0], replace(limit, rate_limit_per_min=5))
    limiters = [RedisLimiter(Functions(one), 1) for one in pipes]
    asked = [limiters[number % CLIENTS].admit(call(number), "", b"{}") for number in range(200)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in answers) == 5  # the sixth comes in 12 s
    assert client.zcard("{s00}:leases") == 5
    for one in pipes:
        await one.close()
