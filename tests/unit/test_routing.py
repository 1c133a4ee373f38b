"""Which backend a call goes to: tables."""

from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.routing import Backend, Loaded, Model, default_model, objection, rank

M, OTHER = "m:latest", "other:latest"


def backend(
    name: str, *, has: tuple[str, ...] = (M,), healthy: bool = True, loaded: bool = False, busy: int = 0
) -> Any:
    models = {one: Model(one) for one in has}
    kept = {M: Loaded()} if loaded else {}
    return Backend(name=name, url=f"http://{name}", healthy=healthy, models=models, loaded=kept, in_flight=busy)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (backend("z"), backend("a", healthy=False)),
        (backend("z", busy=9), backend("a", healthy=False, loaded=True)),
        (backend("z", loaded=True, busy=9), backend("a")),
        (backend("z", busy=1), backend("a", busy=2)),
        (backend("z", loaded=True, busy=1), backend("a", loaded=True, busy=2)),
        (backend("a"), backend("z")),
    ],
    ids=["healthy", "healthy before loaded", "loaded before idle", "idle", "idle of the loaded", "by name"],
)
def test_the_better_backend_comes_first_in_any_order(better: Backend, worse: Backend) -> None:
    assert rank([better, worse], M) == rank([worse, better], M) == [better, worse]


def test_only_backends_that_have_the_model_are_tried() -> None:
    assert rank([backend("a", has=(OTHER,)), backend("b", has=())], M) == []
    assert [one.name for one in rank([backend("a", has=(OTHER,)), backend("b", has=(OTHER, M))], M)] == ["b"]


def test_the_order_depends_on_the_backends_alone() -> None:
    fleet = [backend("a", busy=1), backend("b", loaded=True), backend("c", healthy=False), backend("d")]
    assert {tuple(one.name for one in rank(order, M)) for order in permutations(fleet)} == {("b", "d", "a", "c")}


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
