"""Every way in which a call can be refused: what it takes to get there, and what is said then."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.limits import Estimate, Limits, ModelLimits
from gateway.core.pricing import MICRO, PriceList
from gateway.core.record import Spent, Team
from gateway.core.usage import STREAM_BYTES_MAX
from gateway.state.limiter import RedisLimiter
from tests.fakes import AT_US, KEY, STRANGER, Bench, call, credential_of

KEY_ID = credential_of(KEY).key_id
TEAM = "0000000000"
MONTH = "202611"
PLENTY = Limits(rate_limit_per_min=60)
ABSENT = credential_of(STRANGER)
WRONG = replace(credential_of(KEY), digests=("0" * 64,))


async def unprepared(bench: Bench) -> None:
    pass


async def nothing_loaded(bench: Bench) -> None:
    bench.redis.delete("{s00}:ready", f"{{s00}}:key:{KEY_ID}")


async def no_balance(bench: Bench) -> None:
    bench.redis.hdel(f"{{s00}}:account:{KEY_ID}", "charged")


async def no_team(bench: Bench) -> None:
    bench.redis.delete(f"{{s00}}:team:{TEAM}")


async def no_prices(bench: Bench) -> None:
    bench.redis.delete("{s00}:prices")


async def no_price_yet(bench: Bench) -> None:
    await bench.directory.publish_prices(PriceList(2, ()))


async def running(bench: Bench) -> None:
    await bench.limiter.admit(call(2), "", b"{}")


async def voided(bench: Bench) -> None:
    await bench.limiter.admit(call(1), "", b"{}")
    await bench.limiter.void(call(1))


async def one_event(bench: Bench) -> None:
    bench.redis.xadd("{s00}:usage", {"v": 1})


class Refused(Struct, frozen=True, kw_only=True):
    """`limits` and `key` are of the key, `team` and `team_is` of its team; after `before` call 1 is made."""

    reason: str
    whose: str = "key"
    limits: dict[str, Any] = {}
    key: dict[str, Any] = {}
    team: dict[str, Any] | None = None
    team_is: dict[str, Any] = {}
    before: Callable[[Bench], Any] = unprepared
    call: dict[str, Any] = {}
    objection: str = ""
    stream_bytes_max: int = STREAM_BYTES_MAX

    async def prepare(self, bench: Bench) -> None:
        changes = dict(self.key)
        if self.team is not None:
            changes["team_id"] = TEAM
            team = Team(id=TEAM, limits=Limits(**self.team), **self.team_is)
            await bench.directory.publish_team(team, Spent(month=MONTH))
        bench.limiter = RedisLimiter(bench.functions, 1, stream_bytes_max=self.stream_bytes_max)
        await bench.publish(replace(PLENTY, **self.limits), Spent(month=MONTH), **changes)
        await self.before(bench)


def credits(micro: int) -> dict[str, Any]:
    """A key, or a team, that has so many."""
    return {"metered": True, "granted_micro": micro}


def of_model(**limits: int) -> dict[str, Any]:
    return {"model_limits": {"llama*": ModelLimits(**limits)}}


LONG = {"estimate": Estimate(prompt_max=20, prompt_expected=20, output_max=100)}
REFUSED = {
    "no keys are loaded": Refused(reason="not_ready", before=nothing_loaded),
    "its balance is not loaded": Refused(reason="not_ready", key=credits(MICRO), before=no_balance),
    "its team is not loaded": Refused(reason="not_ready", team={}, before=no_team),
    "no prices are loaded": Refused(reason="not_ready", key=credits(MICRO), before=no_prices),
    "no price is valid yet": Refused(reason="not_ready", key=credits(MICRO), before=no_price_yet),
    "the key is not known": Refused(reason="unknown", call={"credential": ABSENT}),
    "the secret is wrong": Refused(reason="unknown", call={"credential": WRONG}),
    "the secret is wrong and nothing can serve it": Refused(
        reason="unknown", call={"credential": WRONG}, objection="no_backend"
    ),
    "the key is revoked": Refused(reason="unknown", key={"enabled": False}),
    "the key has expired": Refused(reason="unknown", key={"expires_at_ms": AT_US // 1_000}),
    "it comes from elsewhere": Refused(reason="network", key={"networks": ("10.0.0.0/8",)}),
    "the key may only pull": Refused(reason="scope", key={"scopes": ("pull",)}),
    "the key may use other models": Refused(reason="model", key={"models": ("qwen*",)}),
    "no backend answers": Refused(reason="no_backend", objection="no_backend"),
    "no backend has the model": Refused(reason="model_not_found", objection="model_not_found"),
    "the model runs elsewhere": Refused(reason="cloud", objection="cloud"),
    "the line of the model is full": Refused(reason="line_full", objection="line_full"),
    "too many requests, and the line is full": Refused(
        reason="requests", limits={"rate_limit_per_min": 1}, before=running, objection="line_full"
    ),
    "usage cannot be recorded": Refused(reason="backlog", before=one_event, stream_bytes_max=1),
    "its prompt alone is over the limit": Refused(reason="too_large", limits={"tokens_per_min": 9}),
    "its prompt alone is over the model's": Refused(reason="too_large", limits=of_model(tokens_per_min=9)),
    "its prompt alone is over the team's": Refused(reason="too_large", whose="team", team={"tokens_per_min": 9}),
    "its prompt alone is over a month": Refused(reason="too_large", limits={"monthly_token_limit": 20}),
    "no credits": Refused(reason="credits", key=credits(MICRO - 1)),
    "the team has no credits": Refused(reason="credits", whose="team", team={}, team_is=credits(MICRO - 1)),
    "all credits are held": Refused(reason="held", key=credits(2 * MICRO - 1), before=running),
    "all the team's credits are held": Refused(
        reason="held", whose="team", team={}, team_is=credits(2 * MICRO - 1), before=running
    ),
    "what is left of the month is held": Refused(reason="held", limits={"monthly_token_limit": 140}, before=running),
    "the month is used up": Refused(
        reason="month",
        limits={"monthly_token_limit": 21},
        before=lambda bench: _spend(bench, f"{{s00}}:account:{KEY_ID}"),
    ),
    "the team's month is used up": Refused(
        reason="month",
        whose="team",
        team={"monthly_token_limit": 21},
        before=lambda bench: _spend(bench, f"{{s00}}:team-account:{TEAM}"),
    ),
    "as many run as may": Refused(reason="concurrency", limits={"concurrency": 1}, before=running),
    "as many of the team run as may": Refused(
        reason="concurrency", whose="team", team={"concurrency": 1}, before=running
    ),
    "too many requests": Refused(reason="requests", limits={"rate_limit_per_min": 1}, before=running),
    "too many at once": Refused(reason="requests", limits={"burst": 1}, before=running),
    "too many requests of the model": Refused(reason="requests", limits=of_model(rate_limit_per_min=1), before=running),
    "too many requests of the team": Refused(
        reason="requests", whose="team", team={"rate_limit_per_min": 1}, before=running
    ),
    "too many tokens": Refused(reason="tokens", limits={"tokens_per_min": 25}, before=running, call=LONG),
    "too many tokens of the team": Refused(
        reason="tokens", whose="team", team={"tokens_per_min": 25}, before=running, call=LONG
    ),
    "the call has ended": Refused(reason="ended", before=voided),
}


async def _spend(bench: Bench, account: str) -> None:
    bench.redis.hset(account, f"spent:{MONTH}", 1)
