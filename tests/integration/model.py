"""What the Redis functions must do, in exact fractions: no integers' units, no Redis, no clock of its own.

A bucket is a fraction of tokens at a time, a missing one is full; prices are those of core/pricing.py; what a balance
can pay is found by trying. `tests/integration/lockstep.py` holds the functions against it.
"""

from msgspec import Struct

from gateway.core import names, pricing
from gateway.core.pricing import Price
from gateway.state.limiter import LEASE_MS
from tests.integration.model_owner import Owner
from tests.integration.model_scales import FREE, USUAL_UNKNOWN, Ask, Scales, Verdict

USUAL_MAX = 10_000_000


class Lease(Struct):
    """What a call holds; `price` is None for one that was never admitted."""

    state: str
    at_ms: int = 0
    deadline_ms: int = 0
    month: str = ""
    team: bool = False
    model: str = ""
    tokens: int = 0
    expected: int = 0
    drawn: dict[str, set[str]] = {}
    credits: dict[str, int] = {}
    price: Price = FREE
    output: int = 0
    last: tuple[int, int] = (0, 0)


class Model(Scales):
    """One key, perhaps in a team, and its calls by number."""

    def __init__(self, now_us: int) -> None:
        super().__init__(now_us)
        self.enabled, self.expires_at_ms = True, 0
        self.globs: tuple[str, ...] = ()
        self.leases: dict[int, Lease] = {}
        self.used_ms = 0
        self.events: list[dict[str, object]] = []

    @property
    def open(self) -> list[int]:
        return [number for number, lease in self.leases.items() if lease.state == "open"]

    @property
    def known(self) -> bool:
        return self.enabled and not 0 < self.expires_at_ms <= self.now_ms

    def owners_of(self, lease: Lease) -> list[Owner]:
        return [self.key, self.team] if lease.team else [self.key]

    # -- admission ---------------------------------------------------------------------------------------------------

    def verdict(self, number: int, ask: Ask) -> Verdict:
        """What is said to the call; nothing changes."""
        lease = self.leases.get(number)
        if not self.known:
            return Verdict("unknown")
        if lease:
            return Verdict(output=lease.output) if lease.state == "open" else Verdict("ended")
        if not names.allowed(self.globs, ask.model):
            return Verdict("model")
        if ask.objection not in ("", "line_full"):
            return Verdict(ask.objection)
        weighed = self.weigh(ask)
        return Verdict(ask.objection) if ask.objection and not weighed.reason else weighed

    def admit(self, number: int, ask: Ask, verdict: Verdict) -> str:
        """Let it in. What an owner in shadow would have said."""
        refusals = self.refusals(ask, verdict.price)
        lease = Lease(
            "open",
            at_ms=self.now_ms,
            deadline_ms=self.now_ms + LEASE_MS,
            month=self.month,
            team=self.in_team,
            model=ask.model,
            tokens=ask.estimate.prompt_max + verdict.output,
            expected=verdict.expected,
            drawn={},
            credits={},
            price=verdict.price,
            output=verdict.output,
            last=(ask.estimate.prompt_expected, 0),
        )
        told = ""
        for owner in self.owners:
            lines = owner.lines(ask.model)
            lease.drawn[owner.whose] = {line.field for line in lines}
            lease.credits[owner.whose] = max(0, min(verdict.worst, owner.free_credits())) if owner.metered else 0
            for line in lines:
                tokens = verdict.expected if line.kind == "tokens" else 1
                owner.take(line, tokens, self.now_us, floor=-line.capacity if owner.shadow else None)
            add(owner.held, lease.month, lease.tokens)
            owner.credit_held += lease.credits[owner.whose]
            owner.running[number] = lease.deadline_ms
            if mine := [reason for whom, reason, _ in refusals if whom is owner]:
                add(owner.would, mine[0], 1)
                told = mine[0]
        self.leases[number] = lease
        self.used_ms = self.now_ms
        return told

    # -- the end -----------------------------------------------------------------------------------------------------

    def settle(self, number: int, prompt: int, completion: int, *, paid: bool, whole: bool) -> bool:
        """Whether there was an open lease."""
        lease = self.leases.get(number)
        if not lease or lease.state != "open":
            return False
        charged = self.close(number, prompt + completion, pricing.cost(lease.price, prompt, completion) if paid else 0)
        if whole:
            self.learn(lease.model, completion)
        self.event(number, lease, prompt, completion, charged, "0")
        return True

    def void(self, number: int) -> bool:
        lease = self.leases.get(number)
        if lease is None:
            self.leases[number] = Lease("void")
        if not lease or lease.state != "open":
            return False
        self.close(number, 0, 0)
        for owner in self.owners_of(lease):
            for line in owner.lines(lease.model):
                if line.kind == "requests" and line.field in lease.drawn[owner.whose]:
                    owner.take(line, -1, self.now_us)
        return True

    def renew(self, number: int, counts: tuple[int, int]) -> str:
        """ "", or why the call must end."""
        lease = self.leases.get(number)
        if not lease or lease.state != "open":
            return "lost"
        lease.last = counts
        if not self.enabled:
            return "revoked"
        lease.deadline_ms = self.now_ms + LEASE_MS
        for owner in self.owners_of(lease):
            owner.running[number] = lease.deadline_ms
        return ""

    def reap(self, number: int, grace_ms: int) -> bool:
        lease = self.leases.get(number)
        if not lease or lease.state != "open" or lease.deadline_ms + grace_ms > self.now_ms:
            return False
        prompt, completion = lease.last
        charged = self.close(
            number, prompt + completion, pricing.cost(lease.price, prompt, completion) if completion else 0
        )
        self.event(number, lease, prompt, completion, charged, "1")
        return True

    def close(self, number: int, tokens: int, price: int) -> dict[str, int]:
        """Ends an open lease; what each owner is charged."""
        lease, charged = self.leases[number], {}
        for owner in self.owners_of(lease):
            held = lease.credits[owner.whose]
            charged[owner.whose] = min(price, held)
            for line in owner.lines(lease.model):
                if line.kind == "tokens":
                    took = lease.expected if line.field in lease.drawn[owner.whose] else 0
                    owner.take(line, tokens - took, self.now_us)
            add(owner.held, lease.month, -lease.tokens)
            add(owner.spent, lease.month, tokens)
            owner.credit_held -= held
            owner.charged += charged[owner.whose]
            owner.running.pop(number, None)
        lease.state = "settled"
        return charged

    def learn(self, model: str, tokens: int) -> None:
        """Nine steps up for a longer answer, one down for a shorter one; a step is a 64th."""
        usual = self.usual.get(model, max(USUAL_UNKNOWN, tokens))
        step = max(1, usual // 64)
        usual += 9 * step if tokens > usual else -step if tokens < usual else 0
        self.usual[model] = min(max(usual, 1), USUAL_MAX)

    def event(
        self, number: int, lease: Lease, prompt: int, completion: int, charged: dict[str, int], estimated: str
    ) -> None:
        self.events.append(
            {
                "number": number,
                "team": lease.team,
                "at": lease.at_ms,
                "month": lease.month,
                "prompt": prompt,
                "completion": completion,
                "credits": charged["key"],
                "team_credits": charged.get("team", 0),
                "estimated": estimated,
            }
        )


def add(numbers: dict[str, int], name: str, more: int) -> None:
    numbers[name] = numbers.get(name, 0) + more
