"""The Redis functions against a model in exact fractions, step by step, on a clock that the test moves.

The model knows no integers, no units and no expiry: a bucket is a fraction of tokens at a time, a missing one is full.
Amounts and times are drawn at random and, as often, put exactly on a boundary: what is left, the moment a bucket is
full, the end of a lease. Keys that would have expired by the moved clock are deleted, so that expiry is tested too.

Plain chance with the run's seed, not Hypothesis: its machines spend most of their steps on rules that change nothing,
and found half of the mistakes that were put into the functions on purpose. A failure shows its last steps.
"""

from collections import Counter
from fractions import Fraction
from math import ceil, floor
from random import Random
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.call import Bill, Call
from gateway.core.limits import Estimate, Limits
from gateway.core.pricing import MICRO
from gateway.core.record import Spent
from gateway.core.usage import Detail
from gateway.errors import GatewayError
from gateway.state.limiter import LEASE_MS, REFUSALS
from tests.buckets import MINUTE_US, per_minute
from tests.fakes import AT_US, KEY, Bench, call, credential_of, record
from workers.clock import month_of

CLOCK_BACK_US_MAX = 5_000_000
MEMORY_US = 3_600_000_000
HELD_US = Fraction(1_000_000)
EPISODES, STEPS = 40, 50
LIMITS = [1, 2, 7, 20, 60, 999, 60_000, 1_000_000, 99_999_999]
KEY_ID = credential_of(KEY).key_id


class Bucket(Struct):
    """Fractions of tokens at microseconds; `den` is the unit it was last written in."""

    tokens: Fraction
    at: int
    den: int
    converted: bool = False
    """written in another unit than before, so rounded down by less than one unit of a doubles' division"""


class Lease(Struct):
    state: str
    deadline_ms: int = 0
    month: str = ""
    tokens: int = 0
    expected: int = 0
    credits: int = 0
    output: int = 0
    at_ms: int = 0
    last: tuple[int, int] = (0, 0)


def now(bucket: Bucket | None, limit: int, now_us: int) -> Bucket:
    """The bucket at that time; nothing is written by looking."""
    den = per_minute(limit).den
    if bucket is None:
        return Bucket(Fraction(limit), now_us, den)
    tokens, at = bucket.tokens, bucket.at
    if bucket.den != den:
        tokens = Fraction(floor(tokens * den), den)
    if now_us < at:
        at = now_us if at - now_us > CLOCK_BACK_US_MAX else at
    else:
        tokens, at = tokens + Fraction((now_us - at) * limit, MINUTE_US), now_us
    return Bucket(min(tokens, Fraction(limit)), at, den)


def short_us(bucket: Bucket, limit: int, tokens: int, now_us: int) -> Fraction:
    """Microseconds until it holds so many."""
    short = (tokens - bucket.tokens) * MINUTE_US / limit
    return short + max(0, bucket.at - now_us) if short > 0 else Fraction(0)


class Lockstep:
    """`admit`, `settle`, `void`, `renew`, `reap`, `publish` and time, in lockstep with the model."""

    def __init__(self, bench: Bench, chance: Random) -> None:
        self.bench = bench
        self.redis = bench.redis
        self.chance = chance
        self.redis.flushdb()
        self.bench.version = 0
        self.bench.set_clock(AT_US)
        self.calls: dict[int, Call] = {}
        self.leases: dict[int, Lease] = {}
        self.buckets: dict[str, Bucket | None] = {"requests": None, "tokens": None}
        self.written: dict[str, int] = {}  # the limit a bucket was last written under
        self.running: dict[int, int] = {}
        self.open: dict[int, int] = {}
        self.dies: dict[str, int] = {}  # when a key expires, on the moved clock
        self.events = 0
        self.spent = {"202611": 0}
        self.held: dict[str, int] = {}
        self.credit_held = 0
        self.credit = chance.choice([None, None, MICRO, 5 * MICRO])
        self.met: Counter[str] = Counter()
        self.history: list[str] = []
        self.limits = Limits(requests_per_min=1, credits_micro=self.credit)
        self.change_the_rates()
        self.change_the_quotas()

    def step(self) -> None:
        """One thing that happens, and a look whether all agree."""
        what = self.chance.choices(RULES, WEIGHTS)[0]
        self.history.append(f"{what} at {self.bench.now_us}")
        getattr(self, what)()
        self.check()

    # -- what happens ------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        self.wait(self.bench.publish(self.limits, Spent(month="202611", tokens=0)))

    def admit(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            prompt = self.chance.randint(0, 30)
            expected = self.chance.randint(1, min(self.limits.tokens_per_min or 60, 60))
            self.ask(self.new(), Estimate(prompt, min(prompt, 7), expected, self.chance.randint(1, 30)))

    def admit_what_is_left(self) -> None:
        if self.limits.tokens_per_min:
            left = floor(self.look("tokens").tokens)
            self.ask(self.new(), Estimate(1, 1, max(1, left + self.nearly()), 1))

    def admit_what_the_limit_is(self) -> None:
        self.ask(self.new(), Estimate(1, 1, (self.limits.tokens_per_min or 9) + self.nearly(), 1))

    def admit_what_is_left_of_the_month(self) -> None:
        if monthly := self.limits.monthly_tokens:
            left = monthly - self.spent.get(self.month, 0) - self.held.get(self.month, 0)
            self.ask(self.new(), Estimate(max(0, left - 2 + self.nearly()), 1, 1, self.chance.randint(1, 3)))

    def admit_again(self) -> None:
        self.ask(self.pick(), Estimate(1, 1, 1, 1))

    def object(self) -> None:
        self.ask(self.new(), Estimate(1, 1, 1, 1), self.chance.choice(["no_backend", "model_not_found", "cloud"]))

    def settle(self) -> None:
        prompt, completion = self.chance.randint(0, 60), self.chance.randint(0, 60)
        self.end(self.pick(), prompt, completion, self.chance.randint(0, 2) * MICRO)

    def settle_as_expected(self) -> None:
        if self.open:
            number = self.one_open()
            self.end(number, 0, max(0, self.leases[number].expected + self.nearly()), MICRO)

    def void(self) -> None:
        number = self.pick() if self.chance.random() < 0.8 else self.new()
        one = self.calls.setdefault(number, call(number))
        self.wait(self.bench.limiter.void(one))
        lease = self.leases.get(number)
        if lease is None:
            self.leases[number] = Lease("void")
            self.dies[f"lease:{one.id}"] = self.bench.now_us + MEMORY_US
        elif lease.state == "open":
            self.close(number, 0, 0)
            requests = self.look("requests")
            self.write("requests", requests, min(requests.tokens + 1, Fraction(self.limits.requests_per_min)))
            self.met["void"] += 1

    def renew(self) -> None:
        number, counts = self.pick(), (self.chance.randint(0, 50), self.chance.randint(0, 50))
        if number not in self.calls:
            return
        alive = self.wait(self.bench.limiter.renew(self.calls[number], *counts))
        lease = self.leases.get(number)
        assert alive is bool(lease and lease.state == "open")
        if lease and alive:
            lease.deadline_ms, lease.last = self.now_ms + LEASE_MS, counts
            self.run(number, lease.deadline_ms)
            self.met["renew"] += 1

    def reap(self) -> None:
        self.bury(self.pick(), self.chance.choice([0, 1, 3_000]))

    def bury(self, number: int, grace_ms: int) -> None:
        one = self.calls.setdefault(number, call(number))
        done = self.wait(self.bench.limiter.reap(0, KEY_ID, one.id, grace_ms))
        lease = self.leases.get(number)
        due = bool(lease and lease.state == "open" and lease.deadline_ms + grace_ms <= self.now_ms)
        assert done is due
        if lease and due:
            prompt, completion = lease.last
            credits = lease.credits if completion else 0
            self.close(number, prompt + completion, credits)
            self.expect_event(number, lease, prompt, completion, credits, "1")
            self.met["reap"] += 1

    def tick(self) -> None:
        us = self.chance.choice([0, 1, 20_000, 1_000_000, 4_000_000, 20_000_000, 3 * MINUTE_US])
        self.move(self.bench.now_us + self.chance.randint(0, us))

    def tick_far(self) -> None:
        self.move(self.bench.now_us + self.chance.choice([MEMORY_US - 1, MEMORY_US, 864_000_000_000]))

    def tick_until_full(self) -> None:
        kind = self.chance.choice(["requests", "tokens"])
        if limit := self.limit(kind):
            full = self.bench.now_us + ceil(short_us(self.look(kind), limit, limit, self.bench.now_us))
            self.move(max(self.bench.now_us, full + self.nearly()))

    def tick_until_a_lease_ends(self) -> None:
        """The microsecond before, at or after which it ends: for concurrency, or for the reaper."""
        if self.open:
            number, grace_ms = self.one_open(), self.chance.choice([0, 3_000])
            self.move(max(self.bench.now_us, (self.open[number] + grace_ms) * 1_000 + self.nearly()))
            if self.chance.random() < 0.5:
                self.bury(number, grace_ms)
            else:
                self.ask(self.new(), Estimate(0, 0, 1, 1))

    def clock_back(self) -> None:
        self.bench.tick(-self.chance.randint(1, self.chance.choice([10, 10_000, 5_000_000, 20_000_000])))

    def clock_back_as_far_as_a_bucket_bears(self) -> None:
        bucket = self.buckets[self.chance.choice(["requests", "tokens"])]
        if bucket and bucket.at - CLOCK_BACK_US_MAX + 1 < self.bench.now_us:
            self.bench.set_clock(bucket.at - CLOCK_BACK_US_MAX + self.nearly())

    def change_the_rates(self) -> None:
        rpm, tpm = self.chance.choice(LIMITS), self.chance.choice([None, *LIMITS])
        self.limits = replace(self.limits, requests_per_min=rpm, tokens_per_min=tpm)
        self.publish()

    def change_the_quotas(self) -> None:
        concurrency = self.chance.choice([None, None, 1, 2, 3])
        left = self.spent.get(self.month, 0) + self.held.get(self.month, 0)
        monthly = self.chance.choice([None, None, 1, left + self.chance.randint(1, 300)])
        self.limits = replace(self.limits, concurrency=concurrency, monthly_tokens=monthly)
        self.publish()

    def publish_what_is_old(self) -> None:
        before = self.bench.everything()
        version = max(0, self.bench.version - self.chance.randint(0, 2))
        old = record(Limits(requests_per_min=3, credits_micro=self.credit and 1), version=version)
        self.wait(self.bench.directory.publish(old, Spent(month="202611", tokens=10**6)))
        assert self.bench.everything() == before

    def new(self) -> int:
        return len(self.calls)

    def nearly(self) -> int:
        return self.chance.choice([-1, 0, 0, 1])

    def one_open(self) -> int:
        return self.chance.choice(sorted(self.open))

    def pick(self) -> int:
        """A call: an open one, if there is any, as often as not."""
        if self.open and self.chance.random() < 0.5:
            return self.one_open()
        return self.chance.randrange(len(self.calls)) if self.calls else 0

    # -- the model ---------------------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        return self.bench.now_us // 1_000

    @property
    def month(self) -> str:
        return month_of(self.now_ms)

    def limit(self, kind: str) -> int | None:
        return self.limits.requests_per_min if kind == "requests" else self.limits.tokens_per_min

    def look(self, kind: str) -> Bucket:
        limit = self.limit(kind)
        assert limit
        return now(self.buckets[kind], limit, self.bench.now_us)

    def verdict(self, number: int, wanted: Estimate, objection: str) -> tuple[str, int, Fraction]:
        """Why not, the output granted, the microseconds to wait."""
        lease = self.leases.get(number)
        if lease:
            return ("", lease.output, Fraction(0)) if lease.state == "open" else ("ended", 0, Fraction(0))
        if objection:
            return objection, 0, Fraction(0)
        limits, output = self.limits, wanted.output_max
        if limits.tokens_per_min and wanted.expected > limits.tokens_per_min:
            return "too_large", 0, Fraction(0)
        if self.credit is not None and self.credit < wanted.price_micro:
            return "credits", 0, Fraction(0)
        waits = [("", Fraction(0))]
        if self.credit is not None and self.credit - self.credit_held < wanted.price_micro:
            waits.append(("held", HELD_US))
        if limits.monthly_tokens:
            left = limits.monthly_tokens - self.spent.get(self.month, 0) - wanted.prompt_max
            if left < 1:
                return "month", 0, Fraction(0)
            left -= self.held.get(self.month, 0)
            output = min(output, left)
            if left < 1:
                waits.append(("held", HELD_US))
        alive = sum(deadline > self.now_ms for deadline in self.running.values())
        if limits.concurrency and alive >= limits.concurrency:
            waits = [("", Fraction(0)), ("concurrency", HELD_US)]
        waits.append(("requests", short_us(self.look("requests"), limits.requests_per_min, 1, self.bench.now_us)))
        if limits.tokens_per_min:
            waits.append(
                ("tokens", short_us(self.look("tokens"), limits.tokens_per_min, wanted.expected, self.bench.now_us))
            )
        reason, wait = max(waits, key=lambda one: ceil(one[1] / 1_000))  # the first of equal ones
        return reason, output, wait

    def ask(self, number: int, wanted: Estimate, objection: str = "") -> None:
        one = self.calls.setdefault(number, call(number))
        reason, output, wait_us = self.verdict(number, wanted, objection)
        before = self.bench.everything()
        try:
            got = self.wait(self.bench.limiter.admit(replace(one, estimate=wanted), objection, b"{}"))
        except GatewayError as error:
            assert self.bench.everything() == before
            self.check_refusal(error, reason, wait_us)
            self.check_levels(error.levels)
            self.met[reason] += 1
            return
        assert (reason, got.output_tokens_max) == ("", output)
        if number in self.leases:
            assert self.bench.everything() == before
        else:
            self.let_in(number, wanted, output)
        assert got.at_ms == self.leases[number].at_ms
        self.check_levels(got.levels)

    def let_in(self, number: int, wanted: Estimate, output: int) -> None:
        requests, tokens = self.look("requests"), self.limits.tokens_per_min and self.look("tokens")
        self.write("requests", requests, requests.tokens - 1)
        if tokens:
            self.write("tokens", tokens, tokens.tokens - wanted.expected)
        lease = Lease(
            "open",
            self.now_ms + LEASE_MS,
            self.month,
            wanted.prompt_max + output,
            wanted.expected if tokens else 0,
            MICRO if self.credit is not None else 0,
            output,
            self.now_ms,
            (wanted.prompt_expected, 0),
        )
        self.leases[number] = lease
        self.held[lease.month] = self.held.get(lease.month, 0) + lease.tokens
        self.credit_held += lease.credits
        self.run(number, lease.deadline_ms)
        self.met["admitted"] += 1

    def run(self, number: int, deadline_ms: int) -> None:
        self.running[number] = self.open[number] = deadline_ms
        self.dies[f"running:{KEY_ID}"] = self.bench.now_us + MEMORY_US

    def end(self, number: int, prompt: int, completion: int, credits: int) -> None:
        bill = Bill(
            prompt_tokens=prompt, completion_tokens=completion, credits_micro=credits, estimated=False, detail=Detail()
        )
        self.wait(self.bench.limiter.settle(self.calls.setdefault(number, call(number)), bill))
        lease = self.leases.get(number)
        if lease and lease.state == "open":
            self.close(number, prompt + completion, min(credits, lease.credits))
            self.expect_event(number, lease, prompt, completion, min(credits, lease.credits), "0")
            self.met["settled"] += 1

    def close(self, number: int, tokens: int, credits: int) -> None:
        lease = self.leases[number]
        if self.limits.tokens_per_min:
            bucket = self.look("tokens")
            level = min(bucket.tokens - (tokens - lease.expected), Fraction(self.limits.tokens_per_min))
            self.write("tokens", bucket, level)
        self.held[lease.month] -= lease.tokens
        self.spent[lease.month] = self.spent.get(lease.month, 0) + tokens
        self.credit_held -= lease.credits
        if self.credit is not None:
            self.credit -= credits
        self.open.pop(number)
        self.running.pop(number, None)
        lease.state = "settled"
        self.dies[f"lease:{self.calls[number].id}"] = self.bench.now_us + MEMORY_US

    def write(self, kind: str, seen: Bucket, tokens: Fraction) -> None:
        """The bucket as it must have been written, and how long it must be kept."""
        before = self.buckets[kind]
        converted = before is not None and (before.converted or before.den != seen.den)
        self.buckets[kind] = Bucket(tokens, seen.at, seen.den, converted)
        name, limit = f"{kind}:{KEY_ID}", self.limit(kind)
        assert limit
        kept_ms = self.redis.pttl(f"{{s00}}:{name}")
        full_us = short_us(self.buckets[kind], limit, limit, self.bench.now_us)
        assert -2_000 <= kept_ms - (full_us / 1_000 + 1_000) < 3, "value and expiry together, a second after it is full"
        self.dies[name] = self.bench.now_us + ceil(full_us) + 1_000_000
        self.written[kind] = limit

    def move(self, now_us: int) -> None:
        """Time passes: what expires is gone."""
        self.bench.set_clock(now_us)
        for name in [name for name, at in self.dies.items() if at <= now_us]:
            del self.dies[name]
            self.redis.delete(f"{{s00}}:{name}")
            self.met["expired " + name.partition(":")[0]] += 1
            kind, _, one = name.partition(":")
            if kind in self.buckets:
                limit = self.limit(kind)
                if limit and limit == self.written[kind]:
                    assert self.look(kind).tokens == limit, "expiry at full changes nothing"
                self.buckets[kind] = None
            elif kind == "running":
                self.running.clear()
            else:
                self.leases = {n: lease for n, lease in self.leases.items() if self.calls[n].id != one}

    # -- what must be so ---------------------------------------------------------------------------------------------

    def wait(self, coroutine: Any) -> Any:
        """The bench is synchronous underneath: nothing is ever waited for."""
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waited")

    def check_refusal(self, error: GatewayError, reason: str, wait_us: Fraction) -> None:
        assert type(error) is REFUSALS[reason]
        if wait_us:
            assert error.retry_after_s == ceil(wait_us / 1_000_000)

    def check_levels(self, levels: Any) -> None:
        for kind in ("requests", "tokens"):
            limit, told = self.limit(kind), getattr(levels, kind)
            if not limit:
                assert told is None
                continue
            bucket = self.look(kind)
            assert (told.limit, told.left) == (limit, max(0, floor(bucket.tokens)))
            assert told.reset_ms == ceil(short_us(bucket, limit, limit, self.bench.now_us) / 1_000)

    def expect_event(
        self, number: int, lease: Lease, prompt: int, completion: int, credits: int, estimated: str
    ) -> None:
        self.events += 1
        assert self.bench.events()[-1] == {
            "v": "1",
            "id": self.calls[number].id,
            "key": KEY_ID,
            "at": str(lease.at_ms),
            "month": lease.month,
            "prompt": str(prompt),
            "completion": str(completion),
            "credits": str(credits),
            "estimated": estimated,
            "detail": "{}",
        }

    def check(self) -> None:
        for name in self.buckets:  # nothing expires by the server's own clock while this runs
            self.redis.persist(f"{{s00}}:{name}:{KEY_ID}")
        for kind, bucket in self.buckets.items():
            self.check_bucket(kind, bucket)
        account = {name: int(value) for name, value in self.bench.hash("account").items()}
        assert account.pop("credit", None) == self.credit
        assert account.pop("credit_held", 0) == self.credit_held == sum(self.sum_open("credits").values())
        assert {name[6:]: n for name, n in account.items() if name.startswith("spent:") and n} == nonzero(self.spent)
        assert {name[5:]: n for name, n in account.items() if name.startswith("held:") and n} == nonzero(self.held)
        assert nonzero(self.held) == nonzero(self.sum_open("tokens"))
        assert self.zset(f"running:{KEY_ID}") == {self.calls[n].id: at for n, at in self.running.items()}
        assert self.zset("leases") == {f"{KEY_ID}:{self.calls[n].id}": at for n, at in self.open.items()}
        assert self.redis.xlen("{s00}:usage") == self.events

    def check_bucket(self, kind: str, bucket: Bucket | None) -> None:
        found = self.bench.hash(kind)
        if bucket is None:
            assert found == {}
            return
        assert (int(found["at"]), int(found["den"])) == (bucket.at, bucket.den)
        level = Fraction(int(found["level"]), bucket.den)
        assert abs(level - bucket.tokens) * bucket.den <= bucket.converted
        bucket.tokens, bucket.converted = level, False

    def sum_open(self, field: str) -> dict[str, int]:
        """What the open leases hold, by month."""
        held: dict[str, int] = {}
        for number in self.open:
            lease = self.leases[number]
            held[lease.month] = held.get(lease.month, 0) + getattr(lease, field)
        return held

    def zset(self, name: str) -> dict[str, int]:
        return {member.decode(): int(at) for member, at in self.redis.zrange(f"{{s00}}:{name}", 0, -1, withscores=True)}


def nonzero(numbers: dict[str, int]) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if number}


CHANCES = {
    "admit": 6,
    "admit_what_is_left": 3,
    "admit_what_the_limit_is": 1,
    "admit_what_is_left_of_the_month": 2,
    "admit_again": 2,
    "object": 1,
    "settle": 3,
    "settle_as_expected": 2,
    "void": 2,
    "renew": 2,
    "reap": 1,
    "tick": 3,
    "tick_far": 1,
    "tick_until_full": 2,
    "tick_until_a_lease_ends": 4,
    "clock_back": 1,
    "clock_back_as_far_as_a_bucket_bears": 1,
    "change_the_rates": 1,
    "change_the_quotas": 2,
    "publish_what_is_old": 1,
}
RULES, WEIGHTS = list(CHANCES), list(CHANCES.values())
MET = {*REFUSALS, "admitted", "settled", "void", "renew", "reap"} - {"unknown", "not_ready"}
MET |= {"expired requests", "expired tokens", "expired running", "expired lease"}


def test_the_functions_do_what_the_model_does(redis_url: str, seed: str) -> None:
    bench, met = Bench(redis_url), Counter[str]()
    for episode in range(EPISODES):
        both = Lockstep(bench, Random(f"{seed}:{episode}"))
        try:
            for _ in range(STEPS):
                both.step()
        except AssertionError as error:
            error.add_note(f"episode {episode}, {both.limits}:\n" + "\n".join(both.history[-12:]))
            raise
        met += both.met
    assert set(met) == MET, "chance went by something that must be tried"
    bench.close()
