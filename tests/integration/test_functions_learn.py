"""What is reserved of the tokens a minute: the prompt and what this key's answers of the model usually are."""

from math import log
from random import Random

from gateway.core.call import Bill
from gateway.core.limits import Estimate, Limits
from gateway.core.usage import Detail
from gateway.errors import TokensLimited
from tests.fakes import KEY, MODEL, Bench, call, credential_of

OUTPUTS = f"{{s00}}:outputs:{credential_of(KEY).key_id}"
ANSWERS, LAST = 2_000, 1_000
AGENT_MAX = 16_384
TPM = 60_000
MINUTE_US = 60_000_000


def bill(completion: int, *, whole: bool = True) -> Bill:
    return Bill(prompt_tokens=0, completion_tokens=completion, paid=True, estimated=False, whole=whole, detail=Detail())


async def answer(bench: Bench, number: int, completion: int, model: str = MODEL, *, whole: bool = True) -> None:
    one = call(number, model=model, estimate=Estimate(1, 1, AGENT_MAX))
    await bench.limiter.admit(one, "", b"{}")
    await bench.limiter.settle(one, bill(completion, whole=whole))
    bench.redis.delete(f"{{s00}}:lease:{one.id}")


def reserved(bench: Bench, model: str = MODEL) -> int:
    return int(bench.redis.hget(OUTPUTS, model) or 512)


async def test_the_reserve_covers_nine_of_ten_answers(bench: Bench, seed: str) -> None:
    await bench.publish(Limits())
    chance, covered = Random(seed), 0
    for number in range(ANSWERS):
        completion = round(chance.lognormvariate(log(300), 0.8))
        covered += number >= ANSWERS - LAST and completion <= reserved(bench)
        await answer(bench, number, completion)
    print(
        f"\nthe reserve of {reserved(bench)} tokens covered {100 * covered / LAST:.1f} % of the last {LAST:,} answers"
    )
    assert 0.85 * LAST <= covered <= 0.95 * LAST


async def test_each_model_is_learned_by_itself_and_only_from_whole_answers(bench: Bench) -> None:
    await bench.publish(Limits())
    for number in range(0, 200, 2):
        await answer(bench, number, 20, "short:1")
        await answer(bench, number + 1, 5_000, "long:1")
    short, long = reserved(bench, "short:1"), reserved(bench, "long:1")
    assert short < 200
    assert long >= 5_000
    for number in range(200, 250):
        await answer(bench, number, 5_000, "short:1", whole=False)
    assert reserved(bench, "short:1") == short
    assert reserved(bench) == 512, "nothing is known of another one"


async def test_what_is_remembered_of_models_is_bounded(bench: Bench) -> None:
    await bench.publish(Limits())
    for number in range(260):
        await answer(bench, number, 10, f"model{number}:1")
    assert bench.redis.hlen(OUTPUTS) == 256
    assert bench.redis.pttl(OUTPUTS) > 29 * 86_400_000


async def admitted_in_a_minute(bench: Bench, first: int, chance: Random) -> int:
    """An agent that asks for as much as it may have, gets short answers, and comes as often as it is let in."""
    admitted, until_us = 0, bench.now_us + MINUTE_US
    while bench.now_us < until_us:
        one = call(first + admitted, estimate=Estimate(200, 100, AGENT_MAX))
        try:
            await bench.limiter.admit(one, "", b"{}")
        except TokensLimited:
            bench.tick(1_000_000)
            continue
        admitted += 1
        bench.tick(100_000)
        await bench.limiter.settle(one, bill(chance.randint(50, 150)))
    return admitted


async def test_agents_with_a_huge_max_tokens_are_not_starved(bench: Bench, seed: str) -> None:
    """Against a reserve of all that they ask for, as it would be if nothing were learned."""
    await bench.publish(Limits(tokens_per_min=TPM))
    chance = Random(seed)
    await admitted_in_a_minute(bench, 0, chance)
    bench.tick(2 * MINUTE_US)
    held_at_once = TPM // (100 + reserved(bench))
    learned = await admitted_in_a_minute(bench, 100_000, chance)
    fixed_at_once = TPM // (100 + AGENT_MAX)
    print(
        f"\n{learned} calls a minute one after the other; {held_at_once} at once, {fixed_at_once} with a fixed reserve"
    )
    assert held_at_once > 50 * fixed_at_once
    at_once = 0
    bench.tick(2 * MINUTE_US)
    for number in range(10_000):
        try:
            await bench.limiter.admit(call(200_000 + number, estimate=Estimate(200, 100, AGENT_MAX)), "", b"{}")
        except TokensLimited:
            break
        at_once += 1
    assert at_once == TPM // (100 + reserved(bench))
