"""What the rules draw: amounts, models, limits, prices, calls."""

from random import Random

from gateway.core.limits import Estimate, Limits, ModelLimits
from gateway.core.pricing import MICRO, Price
from tests.fakes import MODEL, Bench
from tests.integration.lockstep import Lockstep
from tests.integration.model_owner import Line, Owner
from tests.integration.model_scales import Ask

RATES = [1, 2, 7, 20, 60, 999, 60_000, 1_000_000, 99_999_999]
MODELS = (MODEL, "llama3.2:1b", "qwen3:8b")
GLOBS = ("*", "llama3.2:*", "*:8b", MODEL, "l*a*b")
PARTS = [0, 1, 999, 1_000, 1_001, MICRO, 7 * MICRO // 3]
DAY_US = 86_400_000_000
MULTIPLIERS = [1_000, 2_000, 1, 333, 1_500]
GRACES_MS = [0, 1, 3_000]


class Chances(Lockstep):
    """`chance` may be changed from step to step."""

    def __init__(self, bench: Bench, chance: Random) -> None:
        self.chance = chance
        super().__init__(bench)

    def want(self, prompt_max: int, prompt_expected: int, output: int, model: str = "") -> None:
        """A new call."""
        self.ask(self.new(), Ask(model or self.a_model(), Estimate(prompt_max, prompt_expected, output)))

    def make_room(self) -> None:
        """Take away every limit and every shadow, as often as not, so that one alone decides."""
        if self.chance.random() < 0.5:
            for owner in (self.model.key, self.model.team):
                owner.limits, owner.metered, owner.shadow = Limits(), False, self.chance.random() < 0.1
                self.publish(owner)

    def lines(self, model: str) -> list[tuple[Owner, Line]]:
        return [(owner, line) for owner in self.model.owners for line in owner.lines(model)]

    def new(self) -> int:
        return len(self.calls)

    def nearly(self) -> int:
        return self.chance.choice([-1, 0, 0, 1])

    def pick(self) -> int:
        """A call: an open one, if there is any, as often as not."""
        if (open_calls := self.model.open) and self.chance.random() < 0.5:
            return self.chance.choice(open_calls)
        return self.chance.randrange(len(self.calls)) if self.calls else 0

    def a_model(self) -> str:
        return self.chance.choice(MODELS)

    def an_owner(self) -> Owner:
        return self.chance.choice([self.model.key, self.model.team])

    def a_model_limit(self) -> ModelLimits:
        rpm, tpm = self.chance.choice([None, *RATES]), self.chance.choice([None, *RATES])
        return ModelLimits(rate_limit_per_min=rpm, tokens_per_min=tpm)

    def a_price(self, model: str) -> Price:
        request, prompt, completion = (self.chance.choice(PARTS) for _ in range(3))
        return Price(
            model=model,
            valid_from_ms=self.chance.choice([0, self.model.now_ms + self.chance.randint(-9, 9)]),
            per_request_micro=request,
            per_1k_prompt_micro=prompt,
            per_1k_completion_micro=completion,
        )
