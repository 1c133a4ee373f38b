"""The Redis functions and the model side by side: each step is taken by both, then all that Redis holds is compared.

Time is the bench's. What would have expired by it is deleted, so that expiry is tested too; nothing expires by the
server's own clock while this runs.
"""

import asyncio
from collections import Counter
from math import ceil

from msgspec.structs import replace

from gateway.core.call import Bill, Call
from gateway.core.pricing import PriceList
from gateway.core.record import Spent, Team
from gateway.core.usage import Detail
from gateway.errors import GatewayError, KeyRevoked, LeaseLost
from gateway.state.limiter import REFUSALS, TEAM_WORDS
from tests.fakes import AT_US, Bench, call, record
from tests.integration import views
from tests.integration.model import Model
from tests.integration.model_owner import Owner, short_us
from tests.integration.model_scales import Ask, Verdict
from tests.integration.refusals import KEY_ID, TEAM
from tests.integration.views import done, name_of

MEMORY_US = 3_600_000_000
OUTPUTS_MEMORY_US = 30 * 86_400_000_000
EXPIRY_SLACK_MS = 60_000
"""by so much what expires may live longer"""
EXPIRY_TOLD_MS_MIN = 30_000
"""a shorter rest of a key's life is not told to the server, which might end it in the midst of a step"""
OUTPUTS = "{s00}:outputs:" + KEY_ID
LOST = {"": None, "lost": LeaseLost, "revoked": KeyRevoked}


class Lockstep:
    """One step is one method; what it does to the model and to Redis has to be the same."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.redis = bench, bench.redis
        self.model = Model(AT_US)
        self.calls: dict[int, Call] = {}
        self.dies: dict[str, int] = {}
        """when a key of Redis expires, on the moved clock"""
        self.prices_version = 0
        self.published = {"key": 0, "team": 0}
        """versions"""
        self.met: Counter[str] = Counter()
        self.redis.flushdb()
        self.bench.set_clock(AT_US)
        self.publish_prices()
        self.publish_team()
        self.publish_key()
        assert done(bench.directory.mark_ready(0, done(bench.directory.begin(0))))

    def call(self, number: int) -> Call:
        return self.calls.setdefault(number, call(number))

    def everything(self) -> dict[bytes, bytes]:
        """Every key of the server and its bytes."""
        found = sorted(self.redis.keys())
        pipeline = self.redis.pipeline(transaction=False)
        for name in found:
            pipeline.dump(name)
        return dict(zip(found, pipeline.execute(), strict=True))

    # -- what operators do -------------------------------------------------------------------------------------------

    def publish_key(self) -> None:
        self.bench.version += 1
        self.published["key"] = self.bench.version
        model, key = self.model, self.model.key
        told = record(
            key.limits,
            version=self.bench.version,
            multiplier_milli=model.multiplier_milli,
            team_id=TEAM if model.in_team else None,
            enabled=model.enabled,
            expires_at_ms=model.expires_at_ms or None,
            models=model.globs,
            metered=key.metered,
            granted_micro=key.granted,
            shadow=key.shadow,
        )
        done(self.bench.directory.publish(told, Spent(month="202611")))

    def publish_team(self) -> None:
        self.bench.version += 1
        self.published["team"] = self.bench.version
        team = self.model.team
        told = Team(
            id=TEAM,
            version=self.bench.version,
            limits=team.limits,
            metered=team.metered,
            granted_micro=team.granted,
            shadow=team.shadow,
        )
        done(self.bench.directory.publish_team(told, Spent(month="202611")))

    def publish(self, owner: Owner) -> None:
        if owner.whose == "team":
            self.publish_team()
        else:
            self.publish_key()

    def publish_prices(self) -> None:
        self.prices_version += 1
        asyncio.run(self.bench.directory.publish_prices(PriceList(self.prices_version, self.model.prices)))

    # -- what calls do -----------------------------------------------------------------------------------------------

    def ask(self, number: int, ask: Ask) -> None:
        verdict, before = self.model.verdict(number, ask), self.everything()
        if number not in self.model.leases and self.model.known and not ask.objection:
            views.check_explanation(self.bench, self.model, ask)
        one = self.calls[number] = replace(self.call(number), model=ask.model, estimate=ask.estimate)
        try:
            got = done(self.bench.limiter.admit(one, ask.objection, b"{}"))
        except GatewayError as error:
            assert self.everything() == before, "a refusal writes nothing"
            self._check_refusal(error, verdict)
            views.check_levels(self.model, ask.model, error.levels, known=verdict.reason != "unknown")
            self.met[verdict.reason] += 1
            self.met["team"] += verdict.whose == "team"
            return
        assert (verdict.reason, verdict.output) == ("", got.output_tokens_max)
        if number in self.model.leases:
            assert self.everything() == before, "twice is once"
        else:
            assert got.shadow == self.model.admit(number, ask, verdict)
            self._note_buckets()
            self._note_running(self.model.owners)
            self.met["admitted"] += 1
            self.met["shadow"] += got.shadow != ""
            self.met["shrunk"] += verdict.output < ask.estimate.output_max
        assert got.at_ms == self.model.leases[number].at_ms
        views.check_levels(self.model, ask.model, got.levels)

    def settle_call(self, number: int, prompt: int, completion: int, *, paid: bool = True, whole: bool = True) -> None:
        bill = Bill(
            prompt_tokens=prompt, completion_tokens=completion, paid=paid, estimated=False, whole=whole, detail=Detail()
        )
        settled = self.model.settle(number, prompt, completion, paid=paid, whole=whole)
        assert done(self.bench.limiter.settle(self.call(number), bill)) is settled
        if settled:
            self._note_buckets()
            self._forget_in_an_hour(number)
            self.met["settled"] += 1
            if whole:
                self._outlives(OUTPUTS, OUTPUTS_MEMORY_US)

    def void_call(self, number: int) -> None:
        new = number not in self.model.leases
        done(self.bench.limiter.void(self.call(number)))
        undone = self.model.void(number)
        if new or undone:
            self._note_buckets()
            self._forget_in_an_hour(number)
        self.met["void"] += undone

    def renew_call(self, number: int, counts: tuple[int, int]) -> None:
        lost = self.model.renew(number, counts)
        assert done(self.bench.limiter.renew(self.call(number), *counts)) is LOST[lost]
        if not lost:
            self._note_running(self.model.owners_of(self.model.leases[number]))
        self.met[f"renew {lost}"] += 1

    def reap_call(self, number: int, grace_ms: int) -> None:
        reaped = self.model.reap(number, grace_ms)
        assert done(self.bench.limiter.reap(0, KEY_ID, self.call(number).id, grace_ms)) is reaped
        if reaped:
            self._note_buckets()
            self._forget_in_an_hour(number)
            self.met["reap"] += 1

    def _note_running(self, owners: list[Owner]) -> None:
        """Their running calls are remembered for an hour from now."""
        for owner in owners:
            self._outlives(name_of(owner, "running"), MEMORY_US)

    def _outlives(self, name: str, us: int) -> None:
        """It is kept for so long from now, or as long as before where that is more, or a little longer."""
        dies_us = max(self.dies.get(name, 0), self.model.now_us + us)
        longer_ms = self.redis.pttl(name) - (dies_us - self.model.now_us) // 1_000
        assert -2_000 < longer_ms <= EXPIRY_SLACK_MS, "value and expiry together"
        self.dies[name] = dies_us

    def _forget_in_an_hour(self, number: int) -> None:
        name = f"{{s00}}:lease:{self.call(number).id}"
        assert 0 <= MEMORY_US // 1_000 - self.redis.pttl(name) < 2_000
        self.dies[name] = self.model.now_us + MEMORY_US

    # -- time --------------------------------------------------------------------------------------------------------

    def move(self, now_us: int) -> None:
        """Time passes, or goes back: what expires is gone."""
        self.model.now_us = now_us
        self.bench.set_clock(now_us)
        for name in [name for name, at in self.dies.items() if at <= now_us]:
            del self.dies[name]
            self.redis.delete(name)
            self._forget(name)
        for name in [
            name_of(one, what) for one in (self.model.key, self.model.team) for what in ("buckets", "running")
        ]:
            self._tell_expiry(name)
        self._tell_expiry(OUTPUTS)

    def _forget(self, name: str) -> None:
        for owner in (self.model.key, self.model.team):
            if name == name_of(owner, "buckets"):
                self._check_full(owner)
                owner.buckets.clear()
            if name == name_of(owner, "running"):
                owner.running.clear()
        kind = name.split(":")[1]
        if kind == "outputs":
            self.model.usual.clear()
        if kind == "lease":
            self.model.leases.pop(next(number for number, one in self.calls.items() if name.endswith(one.id)))
        self.met[f"expired {kind}"] += 1

    # -- what must be so ---------------------------------------------------------------------------------------------

    def _check_refusal(self, error: GatewayError, verdict: Verdict) -> None:
        assert type(error) is REFUSALS.get(verdict.reason), verdict
        wait_ms = verdict.wait_ms
        assert error.retry_after_s == (ceil(wait_ms / 1_000) if wait_ms else type(error)().retry_after_s)
        assert (TEAM_WORDS in error.message) == (verdict.whose == "team")

    def check(self) -> None:
        """All that Redis holds is what the model holds."""
        views.check_contents(self.redis, self.model, self.calls)

    def _check_full(self, owner: Owner) -> None:
        """Buckets under the limits that they were written under are full by the time they expire."""
        for line in owner.lines(None):
            if line.field in owner.buckets and line == owner.last_lines[line.field]:
                full = owner.look(line, self.model.now_us).tokens
                assert full == line.capacity, "expiry at full changes nothing"

    def _note_buckets(self) -> None:
        """They are kept until a second after the last of them is full, and no write shortens that."""
        for owner in (self.model.key, self.model.team):
            if owner.written:
                name, now_us = name_of(owner, "buckets"), self.model.now_us
                full_us = max(short_us(bucket, line, line.capacity, now_us) for line, bucket in owner.written)
                rest_ms = self._rest_ms(name)
                expected_ms = max(ceil(full_us / 1_000) + 1_000, rest_ms if rest_ms >= EXPIRY_TOLD_MS_MIN else 0)
                assert -2_000 < self.redis.pttl(name) - expected_ms <= EXPIRY_SLACK_MS, "value and expiry together"
                self.dies[name] = max(self.dies.get(name, 0), now_us + ceil(full_us) + 1_000_000)
                owner.written.clear()
            self._tell_expiry(name_of(owner, "buckets"))

    def _tell_expiry(self, name: str) -> None:
        """The server's own clock does not move with the bench's."""
        if self._rest_ms(name) >= EXPIRY_TOLD_MS_MIN:
            self.redis.pexpire(name, self._rest_ms(name))
        elif name in self.dies:
            self.redis.persist(name)

    def _rest_ms(self, name: str) -> int:
        return ceil((self.dies.get(name, 0) - self.model.now_us) / 1_000)
