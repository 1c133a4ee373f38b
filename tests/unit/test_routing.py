"""Which backend a call goes to: tables of orders, as operators are told of them."""

import timeit
from itertools import permutations, product
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.routing import (
    CANDIDATES_MAX,
    LOAD_BYTES_A_MS,
    WHOLE_NODE,
    Backend,
    Candidate,
    Details,
    Loaded,
    Model,
    Rates,
    Wanted,
    default_model,
    objection,
    rank,
    typical_call_ms,
    unfit,
)

M, OTHER = "m:latest", "other:latest"
FAST = Rates(load_ms=2_000, prompt_token_ms=0.1, output_token_ms=10, call_ms=1_000, calls=9)
SLOW = Rates(load_ms=9_000, prompt_token_ms=2.0, output_token_ms=90, call_ms=9_000, calls=9)
WANTED = Wanted(model=M, prompt_tokens=100)
GIB = 1 << 30


def backend(
    name: str,
    *,
    has: tuple[str, ...] = (M,),
    healthy: bool = True,
    loaded: int | bool = False,
    rates: Rates | None = None,
    length: int = 0,
    **more: Any,
) -> Backend:
    """`loaded`: with so much context; True: with all it may have."""
    models = {one: Model(one, size_bytes=GIB, details=Details(context_length=length)) for one in has}
    kept = {M: Loaded(context_tokens=8_192 if loaded is True else loaded)} if loaded else {}
    return Backend(
        name=name, url=f"http://{name}", healthy=healthy, models=models, loaded=kept, rates={M: rates} if rates else {},
        **{"slots": 2} | more,
    )  # fmt: skip


def names(backends: Any, wanted: Wanted = WANTED) -> list[str]:
    return [one.backend for one in rank(backends, wanted)]


LARGE = replace(WANTED, context_tokens=8_192)
BETTER = {
    "loaded before a load under way": (backend("z", loaded=True, busy=9), backend("a", loading=M), WANTED),
    "a load under way before a cold one": (backend("z", loading=M, busy=9), backend("a"), WANTED),
    "loaded before cold, however slow": (backend("z", loaded=True, rates=SLOW), backend("a", rates=FAST), WANTED),
    "with the needed context before with less": (backend("z", loaded=8_192), backend("a", loaded=4_096), LARGE),
    "with less is as cold": (backend("a", loaded=4_096), backend("z", loaded=4_096, busy=1), LARGE),
    "more than the needed context is enough": (backend("z", loaded=16_384), backend("a"), LARGE),
    "a load that is for others is none": (backend("a"), backend("z", loading=OTHER, busy=1), WANTED),
    "free before full": (
        backend("z", loaded=True, busy=1, rates=SLOW), backend("a", loaded=True, busy=2, rates=FAST), WANTED,
    ),
    "fast before slow": (backend("z", loaded=True, rates=FAST), backend("a", loaded=True, rates=SLOW), WANTED),
    "of full ones the shorter queue": (
        backend("z", loaded=True, busy=3, rates=FAST), backend("a", loaded=True, busy=40, rates=FAST), WANTED,
    ),
    "of the cold the one that loads sooner": (backend("z", rates=FAST), backend("a", rates=SLOW), WANTED),
    "the idle of equals": (backend("z", loaded=True), backend("a", loaded=True, busy=1), WANTED),
    "the one with more slots left of equals": (
        backend("z", loaded=True, busy=1, slots=8), backend("a", loaded=True, busy=1, slots=2), WANTED,
    ),
    "the heavier of equals": (backend("z", loaded=True, weight=300), backend("a", loaded=True, weight=100), WANTED),
    "by name when all is the same": (backend("a"), backend("z"), WANTED),
}  # fmt: skip


@pytest.mark.parametrize(("better", "worse", "wanted"), BETTER.values(), ids=BETTER)
def test_the_better_backend_comes_first_in_any_order(better: Backend, worse: Backend, wanted: Wanted) -> None:
    assert names([better, worse], wanted) == names([worse, better], wanted) == [better.name, worse.name]


UNFIT = {
    "model_missing": backend("a", has=(OTHER,)),
    "down": backend("a", healthy=False),
    "refused": backend("a", refused=True),
    "draining": backend("a", draining=True),
    "ejected": backend("a", ejected=frozenset({M})),
    "context": backend("a", length=4_096),
}


@pytest.mark.parametrize(("reason", "one"), UNFIT.items(), ids=UNFIT)
def test_what_cannot_take_the_call_is_no_candidate_and_the_reason_is_told(reason: str, one: Backend) -> None:
    assert unfit(one, LARGE) == reason
    assert names([one, backend("b")], LARGE) == ["b"]
    assert unfit(backend("b"), LARGE) == ""


def test_an_ejected_node_takes_nothing_and_an_ejected_model_only_itself_away() -> None:
    assert unfit(backend("a", ejected=frozenset({WHOLE_NODE})), WANTED) == "ejected"
    assert unfit(backend("a", ejected=frozenset({OTHER})), WANTED) == ""


def test_a_model_that_does_not_say_its_context_may_have_any() -> None:
    assert unfit(backend("a", length=0), replace(WANTED, context_tokens=10**6)) == ""
    assert unfit(backend("a", length=8_192), LARGE) == ""


@pytest.mark.parametrize(
    ("loaded", "asks", "sent"), [(8_192, 0, 8_192), (8_192, 4_096, 8_192), (4_096, 8_192, 8_192), (0, 4_096, 4_096),
                                 (0, 0, 0)],
)  # fmt: skip
def test_a_call_is_sent_with_the_context_that_reloads_nothing(loaded: int, asks: int, sent: int) -> None:
    (one,) = rank([backend("a", loaded=loaded)], replace(WANTED, context_tokens=asks))
    assert one.context_tokens == sent
    assert (one.state == "loaded") == (loaded >= max(asks, 1))


def test_the_finish_is_the_load_the_queue_and_the_answer() -> None:
    asked = Wanted(model=M, prompt_tokens=1_000, output_tokens=100)
    own_ms = 1_000 * 0.1 + 100 * 10

    def finish(**more: Any) -> int:
        return rank([backend("a", rates=FAST, **more)], asked)[0].finish_ms

    assert finish(loaded=True) == own_ms
    assert finish() == own_ms + 2_000
    assert finish(loaded=True, busy=1) == own_ms, "a free slot is no queue"
    assert finish(loaded=True, busy=2) == own_ms + 1_000 / 2
    assert finish(loaded=True, busy=5) == own_ms + 4 * 1_000 / 2


def test_where_nobody_knows_how_long_a_load_takes_its_size_says_so() -> None:
    unknown = replace(FAST, load_ms=0.0)
    loaded, cold = (rank([backend("a", rates=unknown, loaded=one)], WANTED)[0].finish_ms for one in (True, False))
    assert cold - loaded == pytest.approx(GIB / LOAD_BYTES_A_MS, abs=1)


def test_a_new_backend_is_taken_for_as_fast_as_the_others() -> None:
    known = [backend(name, loaded=True, rates=one) for name, one in (("a", FAST), ("b", SLOW))]
    found = {one.backend: one.finish_ms for one in rank([*known, backend("new", loaded=True)], WANTED)}
    assert found["a"] < found["new"] < found["b"]
    assert typical_call_ms([*known, backend("new")], M) == 5_000


def test_only_what_finishes_about_as_soon_is_as_good() -> None:
    fleet = [
        backend("best", loaded=True, rates=FAST), backend("same", loaded=True, rates=FAST, busy=1),
        backend("slow", loaded=True, rates=SLOW), backend("cold", rates=FAST), backend("full", loaded=True, busy=40),
    ]  # fmt: skip
    assert {one.backend for one in rank(fleet, WANTED) if one.equal} == {"best", "same"}


def test_a_second_load_is_worth_it_when_as_many_wait_as_are_served_meanwhile() -> None:
    (one,) = rank([backend("a", slots=4, rates=replace(FAST, load_ms=5_000))], WANTED)
    assert one.load_from == 4 * 5_000 / 1_000
    (loaded,) = rank([backend("a", loaded=True, rates=FAST)], WANTED)
    assert loaded.load_from == 0


def test_the_order_depends_on_the_backends_alone() -> None:
    fleet = [backend("a", busy=1), backend("b", loaded=True), backend("c", healthy=False), backend("d")]
    assert {tuple(names(order)) for order in permutations(fleet)} == {("b", "d", "a")}


def test_a_call_has_so_many_candidates_the_best_ones(seed: str) -> None:
    fleet = crowd(Random(seed))
    all_of_them = sorted(fleet, key=lambda one: one.name)
    found = rank(all_of_them, WANTED)
    assert len(found) == CANDIDATES_MAX
    states = [one.state for one in found]
    assert states == sorted(states, key=["loaded", "loading", "cold"].index)


def crowd(chance: Random) -> list[Backend]:
    """200 backends with 50 models each."""
    models = [M, *(f"model-{number}:latest" for number in range(49))]
    fleet = []
    for number in range(200):
        fleet.append(
            Backend(
                name=f"node-{number}",
                url=f"http://node-{number}",
                healthy=True,
                models={name: Model(name, size_bytes=GIB) for name in models},
                loaded={name: Loaded(context_tokens=8_192) for name in chance.sample(models, 10)},
                slots=4,
                busy=chance.randrange(5),
                rates={name: FAST if chance.random() < 0.5 else SLOW for name in models},
            )
        )
    return fleet


def test_ranking_many_costs_little(seed: str) -> None:
    """200 backends x 50 models; printed."""
    fleet = crowd(Random(seed))
    took_s = min(timeit.repeat(lambda: rank(fleet, WANTED), number=20, repeat=5)) / 20
    print(f"rank() over 200 backends x 50 models: {took_s * 1000:.2f} ms")
    assert rank(fleet, WANTED)[0].state == "loaded"


def test_whatever_a_backend_is_it_can_be_ranked() -> None:
    odd = [
        backend("x", slots=slots, weight=weight, busy=busy, loaded=loaded, rates=rates)
        for slots, weight, busy, loaded, rates in product(
            (0, 1), (0, 1), (0, 9), (True, False), (None, Rates(), Rates(calls=1, output_token_ms=1e9))
        )
    ]
    for one in odd:
        (found,) = rank([one], Wanted(model=M, prompt_tokens=10**7, output_tokens=10**7))
        assert isinstance(found, Candidate)
        assert found.finish_ms >= 0


@pytest.mark.parametrize(
    ("fleet", "reason"),
    [
        ([], "no_backend"),
        ([backend("a", healthy=False)], "no_backend"),
        ([backend("a", has=(OTHER,))], "model_not_found"),
        ([backend("a", has=(OTHER,)), backend("b", healthy=False)], "no_backend"),
        ([backend("a", has=(OTHER,)), backend("b")], ""),
        ([backend("a")], ""),
    ],
)
def test_the_objection_says_what_is_missing(fleet: list[Backend], reason: str) -> None:
    assert objection(fleet, M) == reason


def remote(name: str, **more: Any) -> Backend:
    return replace(backend(name, has=(OTHER,), **more), remote=frozenset({M}))


@pytest.mark.parametrize(
    ("fleet", "reason"),
    [
        ([remote("a")], "cloud"),
        ([remote("a", healthy=False)], "cloud"),
        ([remote("a"), backend("b", has=())], "cloud"),
        ([remote("a"), backend("b")], ""),
        ([remote("a"), backend("b", healthy=False)], "no_backend"),
    ],
)
def test_a_model_that_is_only_passed_on_is_a_cloud_model(fleet: list[Backend], reason: str) -> None:
    assert objection(fleet, M) == objection(fleet[::-1], M) == reason


def test_the_default_model_is_the_first_that_makes_text() -> None:
    one, away = backend("a", has=("a-embed:latest", "z:latest", "b:latest")), backend("c", healthy=False)
    one.models["a-embed:latest"] = Model("a-embed", capabilities=frozenset({"embedding"}))
    assert default_model([away, one]) == "b:latest"
    assert default_model([away]) is None
