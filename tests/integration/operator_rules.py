"""What operators do to a key, its team and the prices, with all amounts by chance."""

from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from gateway.core.limits import Limits
from gateway.core.pricing import ANY, MICRO, Price
from gateway.core.record import Spent, Team
from tests.fakes import Bench, record
from tests.integration.chances import GLOBS, MODELS, MULTIPLIERS, RATES, Chances
from tests.integration.refusals import TEAM
from tests.integration.views import check_statement, done


class OperatorRules(Chances):
    """Each rule is a method without arguments. `restart`: of the server."""

    def __init__(self, bench: Bench, chance: Random, restart: Callable[[], None] | None = None) -> None:
        super().__init__(bench, chance)
        self._restart = restart
        self.model.prices = (Price(model=ANY, valid_from_ms=0, per_request_micro=MICRO, per_1k_completion_micro=MICRO),)
        self.publish_prices()
        for _ in range(2):
            self.change_the_rates()
            self.change_the_quotas()
            self.change_the_credits()

    def change_the_rates(self) -> None:
        owner = self.an_owner()
        rpm, tpm = self.chance.choice([None, *RATES]), self.chance.choice([None, *RATES])
        burst = self.chance.choice([None, None, 1, 2, 5_000])
        owner.limits = replace(owner.limits, rate_limit_per_min=rpm, tokens_per_min=tpm, burst=burst)
        self.publish(owner)

    def change_the_quotas(self) -> None:
        owner = self.an_owner()
        concurrency = self.chance.choice([None, None, 1, 2, 3])
        used = owner.spent.get(self.model.month, 0) + owner.held.get(self.model.month, 0)
        monthly = self.chance.choice([None, None, 1, used + self.chance.randint(1, 300)])
        owner.limits = replace(owner.limits, concurrency=concurrency, monthly_token_limit=monthly)
        self.publish(owner)

    def change_the_limits_of_models(self) -> None:
        owner = self.an_owner()
        globs = self.chance.sample(GLOBS, self.chance.randint(0, 3))
        owner.limits = replace(owner.limits, model_limits={glob: self.a_model_limit() for glob in globs})
        self.publish(owner)

    def change_the_credits(self) -> None:
        """Metered or not, and perhaps a grant."""
        owner = self.an_owner()
        owner.metered = self.chance.random() < 0.6
        owner.granted += self.chance.choice([0, 1, MICRO, 50 * MICRO])
        self.publish(owner)

    def change_the_prices(self) -> None:
        """Some valid now, some at a moment to come; sometimes none."""
        models = self.chance.sample([ANY, ANY, *MODELS], self.chance.randint(0, 4))
        prices = [self.a_price(model) for model in models for _ in range(2)]
        self.model.prices = tuple({(one.model, one.valid_from_ms): one for one in prices}.values())
        self.publish_prices()

    def change_the_key(self) -> None:
        self.model.multiplier_milli = self.chance.choice(MULTIPLIERS)
        self.model.globs = tuple(self.chance.sample(GLOBS, self.chance.choice([0, 0, 0, 1, 3])))
        self.publish_key()

    def put_in_shadow(self) -> None:
        """Or take out of it. In it calls come in that are far over the limit."""
        owner = self.an_owner()
        owner.shadow = not owner.shadow
        self.publish(owner)
        for _ in range(3 * owner.shadow):
            self.want(0, 0, 1_000)

    def join_or_leave(self) -> None:
        self.model.in_team = not self.model.in_team
        self.publish_key()

    def revoke_for_a_while(self) -> None:
        self.model.enabled = False
        self.publish_key()
        self.want(1, 1, 1)
        self.renew_call(self.pick(), (1, 1))
        self.settle_call(self.pick(), 1, 1)
        self.model.enabled = True
        self.publish_key()

    def let_it_expire(self) -> None:
        self.model.expires_at_ms = self.model.now_ms + self.chance.randint(1, 3)
        self.publish_key()
        self.move(self.model.expires_at_ms * 1_000 + self.nearly())
        self.want(1, 1, 1)
        self.model.expires_at_ms = 0
        self.publish_key()

    def tick_until_a_price_is_valid(self) -> None:
        """One dearer than what there is."""
        owner, model = self.chance.choice(self.model.owners), self.a_model()
        owner.metered, owner.granted = True, owner.granted + 100 * MICRO
        self.publish(owner)
        from_ms = self.model.now_ms + self.chance.randint(1, 3)
        named = self.chance.choice([model, model, ANY])
        dearer = Price(model=named, valid_from_ms=from_ms, per_request_micro=self.chance.randint(1, 9) * MICRO)
        others = [one for one in self.model.prices if (one.model, one.valid_from_ms) != (named, from_ms)]
        self.model.prices = (*others, dearer)
        self.publish_prices()
        self.move(from_ms * 1_000 + self.nearly())
        self.want(1, 1, 1, model)

    def publish_what_is_old(self) -> None:
        before = self.everything()
        version = max(0, self.bench.version - self.chance.randint(1, 2))
        spent, wrong = Spent(month="202611", tokens=10**6, credits_micro=10**6), Limits(rate_limit_per_min=3)
        if version < self.published["key"]:
            done(self.bench.directory.publish(record(wrong, version=version, granted_micro=1), spent))
        if version < self.published["team"]:
            done(self.bench.directory.publish_team(Team(id=TEAM, version=version, limits=wrong), spent))
        assert self.everything() == before

    def look_at_it(self) -> None:
        before = self.everything()
        check_statement(self.bench, self.model)
        assert self.everything() == before

    def restart(self) -> None:
        """Of the server: it has forgotten nothing."""
        if self._restart:
            self._restart()
            self.met["restart"] += 1
