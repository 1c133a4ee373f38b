"""What may happen to the functions and the model, with all amounts and times by chance.

As often as not an amount is put exactly on a boundary, or one beside it: what is left, what a bucket holds at most, the
moment it is full, the end of a lease, the last credit. Chance alone found half of the mistakes that were put into the
functions on purpose. `chance` may be Hypothesis', which then shrinks what it found.
"""

from math import ceil, floor

from msgspec.structs import replace

from gateway.core import pricing
from gateway.core.limits import Estimate
from gateway.state.limiter import REFUSALS
from tests.buckets import MINUTE_US
from tests.integration.chances import DAY_US, GRACES_MS, MULTIPLIERS
from tests.integration.lockstep import MEMORY_US
from tests.integration.model_owner import CLOCK_BACK_US_MAX, short_us, value
from tests.integration.model_scales import USUAL_UNKNOWN, Ask
from tests.integration.operator_rules import OperatorRules

WEIGHTS = {
    "admit": 6,
    "admit_what_is_left": 4,
    "admit_what_is_left_of_the_month": 3,
    "admit_what_the_credits_pay": 3,
    "admit_again": 2,
    "object": 1,
    "settle": 3,
    "settle_as_expected": 4,
    "void": 2,
    "void_after_a_change": 1,
    "renew": 2,
    "reap": 1,
    "tick": 3,
    "tick_far": 1,
    "tick_until_there_is_enough": 3,
    "tick_until_a_lease_ends": 4,
    "tick_until_a_price_is_valid": 1,
    "clock_back": 1,
    "clock_back_as_far_as_a_bucket_bears": 1,
    "change_the_rates": 2,
    "change_the_quotas": 2,
    "change_the_limits_of_models": 1,
    "change_the_credits": 2,
    "change_the_prices": 2,
    "change_the_key": 1,
    "put_in_shadow": 1,
    "join_or_leave": 1,
    "revoke_for_a_while": 1,
    "let_it_expire": 1,
    "publish_what_is_old": 1,
    "look_at_it": 2,
    "restart": 1,
}
"""how often each rule, against the others"""
MET = {*REFUSALS, "admitted", "settled", "void", "renew ", "renew lost", "renew revoked", "reap", "shadow", "shrunk"}
MET |= {f"expired {kind}" for kind in ("buckets", "team-buckets", "running", "team-running", "lease", "outputs")}
MET |= {"team"}
MET -= {"network", "scope", "backlog"}
"""what has to have happened once the rules are through; the rest has tests of its own"""


class Rules(OperatorRules):
    """Each rule is a method without arguments."""

    # -- calls -------------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            prompt = self.chance.randint(0, 30)
            self.want(prompt, min(prompt, 7), self.chance.choice([0, 1, 30, 60, 600]))

    def admit_what_is_left(self) -> None:
        """Of a bucket of tokens; or as much as it may ever hold."""
        model = self.a_model()
        if lines := [one for one in self.lines(model) if one[1].kind == "tokens"]:
            owner, line = self.chance.choice(lines)
            left = floor(owner.look(line, self.model.now_us).tokens)
            most = self.chance.choice([left, left, line.capacity])
            output = self.chance.choice([0, 0, 1, 100])
            needed = max(0, most - output + self.nearly())
            self.want(needed, needed, output, model)

    def admit_what_is_left_of_the_month(self) -> None:
        """With what others hold, and without."""
        owner = self.chance.choice(self.model.owners)
        self.make_room()
        used = owner.spent.get(self.model.month, 0) + owner.held.get(self.model.month, 0)
        owner.limits = replace(owner.limits, monthly_token_limit=used + self.chance.randint(1, 50))
        self.publish(owner)
        if self.chance.random() < 0.5:
            self.want(1, 1, 1)
        left = self.model.left_of_month(owner) or 0
        unheld = left - owner.held.get(self.model.month, 0)
        whole = value(owner.limits.monthly_token_limit) or 0
        prompt = self.chance.choice([left, unheld, unheld, unheld, whole]) - self.chance.choice([0, 0, 1, 2])
        self.want(max(0, prompt + self.nearly()), 1, self.chance.randint(0, 3))

    def admit_what_the_credits_pay(self) -> None:
        """A balance that is just enough, or just not, for so much output."""
        owner, model = self.chance.choice(self.model.owners), self.a_model()
        self.make_room()
        if self.chance.random() < 0.5:
            self.model.multiplier_milli = self.chance.choice(MULTIPLIERS)
            self.publish_key()
        prompt, output = self.chance.randint(0, 3_000), self.chance.choice([0, 1, 2, 999, 1_000, 5_000])
        if price := pricing.valid(self.model.prices, model, self.model.now_ms):
            price = pricing.with_multiplier(price, self.model.multiplier_milli)
            worth = pricing.cost(price, prompt, output) + self.nearly()
            owner.metered, owner.granted = True, max(0, owner.charged + owner.credit_held + worth)
            self.publish(owner)
        self.want(prompt, 1, self.chance.choice([0, 1, output, output + 1, 10_000]), model)

    def admit_again(self) -> None:
        """With the same id, be it open, over or void."""
        self.ask(self.pick(), Ask(self.a_model(), Estimate(1, 1, 1)))

    def object(self) -> None:
        why = self.chance.choice(["no_backend", "model_not_found", "cloud", "line_full"])
        self.ask(self.new(), Ask(self.a_model(), Estimate(1, 1, 1), why))

    def settle(self) -> None:
        paid, whole = self.chance.random() < 0.8, self.chance.random() < 0.5
        prompt, completion = self.chance.randint(0, 60), self.chance.choice([0, 1, 60, 600, 6_000])
        self.settle_call(self.pick(), prompt, completion, paid=paid, whole=whole)

    def settle_as_expected(self) -> None:
        """With what it took of its tokens, what it holds, or what is usual."""
        if open_calls := self.model.open:
            number = self.chance.choice(open_calls)
            lease = self.model.leases[number]
            prompt = self.chance.choice([0, lease.tokens - lease.output])
            usual = self.model.usual.get(lease.model, USUAL_UNKNOWN)
            completion = self.chance.choice([lease.expected - prompt, lease.output, usual])
            self.settle_call(number, prompt, max(0, completion + self.nearly()))

    def void(self) -> None:
        self.void_call(self.pick() if self.chance.random() < 0.8 else self.new())

    def void_after_a_change(self) -> None:
        """Of the limits, which others have drawn from since."""
        number = self.new()
        self.want(1, 1, 1)
        self.change_the_rates()
        self.want(1, 1, 1)
        self.void_call(number)

    def renew(self) -> None:
        self.renew_call(self.pick(), (self.chance.randint(0, 50), self.chance.randint(0, 50)))

    def reap(self) -> None:
        self.reap_call(self.pick(), self.chance.choice(GRACES_MS))

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        us = self.chance.choice([0, 1, 20_000, 1_000_000, 4_000_000, 20_000_000, 3 * MINUTE_US])
        self.move(self.model.now_us + self.chance.randint(0, us))

    def tick_far(self) -> None:
        self.move(
            self.model.now_us + self.chance.choice([MEMORY_US - 1, MEMORY_US, 10 * DAY_US, 30 * DAY_US, 30 * DAY_US])
        )

    def tick_until_there_is_enough(self) -> None:
        """For one more request, so many tokens, or until a bucket is full."""
        if lines := self.lines(model := self.a_model()):
            owner, line = self.chance.choice(lines)
            most = self.chance.choice([1, line.capacity, self.chance.randint(1, line.capacity)])
            needed = 1 if line.kind == "requests" and self.chance.random() < 0.5 else most
            now_us = self.model.now_us
            wait_us = ceil(short_us(owner.look(line, now_us), line, needed, now_us))
            self.move(max(now_us, now_us + wait_us + self.nearly()))
            if self.chance.random() < 0.5:
                self.want(needed, needed if line.kind == "tokens" else 0, 0, model)

    def tick_until_a_lease_ends(self) -> None:
        """The microsecond before, at or after which it ends: for concurrency, or for the reaper."""
        if open_calls := self.model.open:
            number, grace_ms = self.chance.choice(open_calls), self.chance.choice([0, 3_000])
            end_us = (self.model.leases[number].deadline_ms + grace_ms) * 1_000
            self.move(max(self.model.now_us, end_us + self.nearly()))
            if self.chance.random() < 0.5:
                self.reap_call(number, grace_ms)
            else:
                self.want(0, 0, 1)

    def clock_back(self) -> None:
        self.move(self.model.now_us - self.chance.randint(1, self.chance.choice([10, 10_000, 5_000_000, 20_000_000])))

    def clock_back_as_far_as_a_bucket_bears(self) -> None:
        buckets = [bucket for owner in self.model.owners for bucket in owner.buckets.values()]
        if buckets:
            bucket = self.chance.choice(buckets)
            if bucket.at - CLOCK_BACK_US_MAX + 1 < self.model.now_us:
                self.move(bucket.at - CLOCK_BACK_US_MAX + self.nearly())
