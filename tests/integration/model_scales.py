"""What the limits say of a call, in the model: every owner's reasons against it, and which of them is told."""

from msgspec import Struct

from gateway.core import pricing
from gateway.core.limits import Estimate
from gateway.core.pricing import Price
from tests.integration.model_owner import Owner, value
from workers.clock import month_of

HELD_WAIT_MS = 1_000
USUAL_UNKNOWN = 512
FREE = Price(model="", valid_from_ms=0)


class Ask(Struct, frozen=True):
    """A call that wants to come in."""

    model: str
    estimate: Estimate
    objection: str = ""


class Verdict(Struct):
    """`reason` is "" for a call that comes in; `wait_ms` None where waiting does not help."""

    reason: str = ""
    whose: str = "key"
    wait_ms: int | None = None
    output: int = 0
    expected: int = 0
    worst: int = 0
    price: Price = FREE


def affordable(price: Price, prompt: int, wanted: int, micro: int) -> int:
    """The most output that with the prompt costs no more; found by halving."""
    low, high = 0, wanted
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if pricing.cost(price, prompt, middle) <= micro else (low, middle - 1)
    return low


class Scales:
    """Weighs a call against one key, and its team if it is in one."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us
        self.key, self.team, self.in_team = Owner("key"), Owner("team"), False
        self.multiplier_milli = pricing.MULTIPLIER_ONE
        self.prices: tuple[Price, ...] = ()
        self.usual: dict[str, int] = {}
        """how long answers of a model are"""

    @property
    def now_ms(self) -> int:
        return self.now_us // 1_000

    @property
    def month(self) -> str:
        return month_of(self.now_ms)

    @property
    def owners(self) -> list[Owner]:
        return [self.key, self.team] if self.in_team else [self.key]

    def weigh(self, ask: Ask) -> Verdict:
        """What the limits say."""
        metered = any(owner.metered for owner in self.owners)
        price = pricing.valid(self.prices, ask.model, self.now_ms) if metered else FREE
        if price is None:
            return Verdict("not_ready")
        price = pricing.with_multiplier(price, self.multiplier_milli)
        refusals = self.refusals(ask, price)
        final = [one for one in refusals if not one[0].shadow]
        output = self.output(ask, price)
        verdict = Verdict(
            output=output,
            expected=self.expected(ask),
            worst=pricing.cost(price, ask.estimate.prompt_max, output),
            price=price,
        )
        if final:  # the first that nothing mends, else the first of those with the longest wait
            owner, reason, wait_ms = max(final, key=lambda one: (one[2] is None, one[2] or 0))
            verdict.reason, verdict.whose, verdict.wait_ms = reason, owner.whose, wait_ms
        return verdict

    def refusals(self, ask: Ask, price: Price) -> list[tuple[Owner, str, int | None]]:
        """All that is against it: whose, why, how long."""
        found: list[tuple[Owner, str, int | None]] = []
        prompt = ask.estimate.prompt_max
        least = pricing.cost(price, prompt, min(1, ask.estimate.output_max))
        for owner in self.owners:
            lines = [line for line in owner.lines(ask.model) if line.kind == "tokens"]
            found += [(owner, "too_large", None) for line in lines if ask.estimate.prompt_expected > line.capacity]
            monthly = value(owner.limits.monthly_token_limit)
            found += [(owner, "too_large", None)] if monthly and prompt >= monthly else []
        for owner in self.owners:
            if owner.metered and owner.granted - owner.charged < least:
                found.append((owner, "credits", None))
        for owner in self.owners:
            if (left := self.left_of_month(owner)) is not None and left - prompt < 1:
                found.append((owner, "month", None))
        for owner in self.owners:
            found += self.waits(owner, ask, least)
        return found

    def waits(self, owner: Owner, ask: Ask, least: int) -> list[tuple[Owner, str, int | None]]:
        found: list[tuple[Owner, str, int | None]] = []
        if owner.metered and owner.free_credits() < least:
            found.append((owner, "held", HELD_WAIT_MS))
        left = self.left_of_month(owner)
        if left is not None and left - owner.held.get(self.month, 0) - ask.estimate.prompt_max < 1:
            found.append((owner, "held", HELD_WAIT_MS))
        alive = sum(deadline > self.now_ms for deadline in owner.running.values())
        if (most := value(owner.limits.concurrency)) and alive >= most:
            found.append((owner, "concurrency", HELD_WAIT_MS))
        for line in owner.lines(ask.model):
            needed = self.expected(ask) if line.kind == "tokens" else 1
            if wait_ms := owner.wait_ms(line, needed, self.now_us):
                found.append((owner, line.kind, wait_ms))
        return found

    def left_of_month(self, owner: Owner) -> int | None:
        """Tokens that are not spent; None where there is no such limit."""
        monthly = value(owner.limits.monthly_token_limit)
        return None if monthly is None else monthly - owner.spent.get(self.month, 0)

    def expected(self, ask: Ask) -> int:
        """Tokens it takes of those a minute: no more than every bucket may ever hold."""
        usual = self.usual.get(ask.model, USUAL_UNKNOWN)
        lines = [line for owner in self.owners for line in owner.lines(ask.model) if line.kind == "tokens"]
        fits = [line.capacity for line in lines if line.capacity >= ask.estimate.prompt_expected]
        return min([ask.estimate.prompt_expected + min(ask.estimate.output_max, usual), *fits])

    def output(self, ask: Ask, price: Price) -> int:
        """What each owner that is not in shadow has left for it."""
        output, prompt = ask.estimate.output_max, ask.estimate.prompt_max
        for owner in self.owners:
            if owner.shadow:
                continue
            if owner.metered:
                output = min(output, affordable(price, prompt, output, owner.free_credits()))
            if (left := self.left_of_month(owner)) is not None:
                output = min(output, left - owner.held.get(self.month, 0) - prompt)
        return output
