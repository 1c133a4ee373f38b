"""Mistakes put into the functions on purpose: each is found by the rules, or the rules are not worth much.

Among them are all those that public implementations made (reference: reliability section 5.8) and those that the first
generator of the reference did not find: off by one at a limit, at a lease's end, at exactly full, 14 digits of 16.
"""

import pytest

from gateway.errors import GatewayError
from gateway.state.functions import source
from tests.fakes import Bench
from tests.integration.conftest import keep_order
from tests.integration.driver import drive
from tests.integration.rules import MET

EPISODES = 80
EPISODES_OF_THE_RIGHT_ONE = 200

MUTANTS = {
    "one more may run": ("running_of(owner, now) >= owner.concurrency", "running_of(owner, now) > owner.concurrency"),
    "a lease counts a millisecond longer": ("'(' .. str(math.floor(now / 1000))", "str(math.floor(now / 1000))"),
    "a lease is reaped a millisecond later": (
        "whole(ARGV[4], 'grace') > math.floor(now / 1000)",
        "whole(ARGV[4], 'grace') >= math.floor(now / 1000)",
    ),
    "a millionth too much is affordable": (
        "math.floor(micro % per_1k * 1000 / per_1k)",
        "math.ceil(micro % per_1k * 1000 / per_1k)",
    ),
    "prices are rounded down": (
        "math.ceil(tokens % 1000 * per_1k / 1000)",
        "math.floor(tokens % 1000 * per_1k / 1000)",
    ),
    "the tier's prices are rounded down": (
        "math.ceil(micro * multiplier / 1000)",
        "math.floor(micro * multiplier / 1000)",
    ),
    "a price comes a microsecond late": ("tonumber(from) * 1000 <= now", "tonumber(from) * 1000 < now"),
    "the team is forgotten at the end": ("  if names.team then\n    team_credits", "  if false then\n    team_credits"),
    "more is charged than was held": ("math.min(price, held.credits), 0", "price, 0"),
    "the team pays what the key holds": ("math.min(price, held.team_credits)", "math.min(price, held.credits)"),
    "what was never drawn is given back": ("drew(drawn, bucket) and held.expected or 0", "held.expected"),
    "a request that was never drawn is given back": ("if drew(drawn, bucket) then", "if true then"),
    "a void call keeps its request": ("bucket.level + bucket.den)", "bucket.level)"),
    "buckets expire before the slowest is full": ("redis.call('PTTL', key) < ms", "true"),
    "a life is never made longer": ("redis.call('PTTL', key) < ms", "redis.call('PTTL', key) < 0"),
    "full a microsecond too soon": (
        "math.ceil((bucket.full - level) / bucket.num)",
        "math.floor((bucket.full - level) / bucket.num)",
    ),
    "buckets of 14 digits": ("'%.0f:%.0f:%.0f'", "'%.14g:%.14g:%.14g'"),
    "a clock five seconds behind restarts a bucket": ("at - now > CLOCK_BACK_US_MAX", "at - now >= CLOCK_BACK_US_MAX"),
    "a clock that went back makes tokens": ("if at - now > CLOCK_BACK_US_MAX then at = now end", "at = now"),
    "a wait that the late clock is left out of": ("math.max(0, bucket.at - now)", "0"),
    "waits are rounded down": ("return math.ceil((math.ceil(", "return math.floor((math.ceil("),
    "a prompt as large as the limit is too large": (
        "ask.prompt_expected > bucket.capacity",
        "ask.prompt_expected >= bucket.capacity",
    ),
    "a prompt as large as the month is not": ("ask.prompt_max >= owner.monthly", "ask.prompt_max > owner.monthly"),
    "the last credit cannot be spent": ("owner.credit < least", "owner.credit <= least"),
    "the last free credit cannot be held": ("free < least", "free <= least"),
    "one token too many of the month": ("unheld < 1", "unheld < 0"),
    "credits held for one token of output": ("math.min(worst, owner.credit -", "math.min(least, owner.credit -"),
    "shadow cuts the output": ("verdict.price.completion > 0 and not owner.shadow", "verdict.price.completion > 0"),
    "shadow blocks for long after": ("math.max(bucket.level, 0 - bucket.full)", "bucket.level"),
    "of equal waits the last is told": ("wait <= verdict.wait", "wait < verdict.wait"),
    "burst is left out": ("limit, capacity or limit, now)", "limit, limit, now)"),
    "a model's limit is everyone's": ("if not model or matches(glob, model) then", "if true then"),
    "a changed limit changes the tokens": ("if den ~= bucket.den then", "if false then"),
    "what is held is given back to this month": ("'held:' .. held.month", "'held:' .. month_of(now)"),
    "a key expires a microsecond late": ("expires * 1000 <= now", "expires * 1000 < now"),
    "a revoked key's calls are renewed": ("if redis.call('HGET', names.key, 'enabled') == '0' then return {2} end", ""),
    "an answer cut off is learned from": ("if ARGV[8] == '1' then learn", "if true then learn"),
    "eight steps up": ("usual + 9 * step", "usual + 8 * step"),
    "an older version wins": ("or -1) > version then return 0", "or -1) > version + 1 then return 0"),
    "a repeated admission takes again": ("if before[1] == 'open' then", "if false then"),
    "a free call is paid": ("ARGV[6] == '1' and cost(", "cost("),
}


@pytest.mark.parametrize(("right", "wrong"), MUTANTS.values(), ids=MUTANTS)
def test_a_mistake_is_found(redis_url: str, right: str, wrong: str, seed: str) -> None:
    library = source()
    assert right in library, "the mistake has nowhere to be made"
    bench = Bench(redis_url, library.replace(right, wrong, 1))
    keep_order(bench)
    with pytest.raises((AssertionError, GatewayError, ValueError)):
        drive(bench, seed, EPISODES)
    bench.close()


def test_the_right_ones_pass_and_meet_all_that_may_happen(bench: Bench, seed: str) -> None:
    met = drive(bench, seed, EPISODES_OF_THE_RIGHT_ONE)
    assert set(met) >= MET, MET - set(met)
