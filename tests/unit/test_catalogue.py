"""The fleet as one: tables."""

from itertools import permutations
from typing import Any

import pytest

from gateway.core import catalogue
from gateway.core.routing import Backend, Loaded, Model

M, OTHER = "m:latest", "other:latest"


def backend(name: str, models: dict[str, Model], *, healthy: bool = True, **more: Any) -> Backend:
    return Backend(name=name, url=f"http://{name}", healthy=healthy, models=models, **more)


OLD, NEW = Model("m", 5, digest="old"), Model("M", 7, digest="new")
FLEET = [
    backend("a", {M: OLD, OTHER: Model("other")}, loaded={M: Loaded("later", 9.0), OTHER: Loaded("soon", 1.0)}),
    backend("b", {M: NEW}, loaded={M: Loaded("sooner", 8.0), "deleted:latest": Loaded("x", 99.0)}),
    backend("c", {"gone:latest": Model("gone")}, healthy=False, loaded={"gone:latest": Loaded("y", 99.0)}),
]


def test_every_healthy_model_is_there_once_with_its_newest_copy() -> None:
    for order in permutations(FLEET):
        cards = catalogue.models(order)
        assert [(card.name, card.copy.digest, card.modified_s, card.backends) for card in cards] == [
            (M, "new", 7, 2),
            (OTHER, "", 0, 1),
        ]
    assert catalogue.models([]) == []


def test_what_is_loaded_is_there_once_as_where_it_stays_longest() -> None:
    for order in permutations(FLEET):
        found = catalogue.loaded(order)
        assert [(name, model.digest, loaded.expires_at) for name, model, loaded in found] == [
            (M, "old", "later"),
            (OTHER, "", "soon"),
        ]


def test_a_key_sees_the_models_it_may_use_and_no_others() -> None:
    assert catalogue.visible(FLEET, ()) == FLEET[:2]
    seen = catalogue.visible(FLEET, (OTHER,))
    assert [card.name for card in catalogue.models(seen)] == [OTHER]
    assert [name for name, _, _ in catalogue.loaded(seen)] == [OTHER]
    assert catalogue.visible(FLEET, ("nothing", "*")) == FLEET[:2]
    assert catalogue.models(catalogue.visible(FLEET, ("nothing:*",))) == []


@pytest.mark.parametrize(
    ("versions", "oldest"),
    [
        ([], ""),
        ([""], ""),
        (["0.33.0", "0.9.7"], "0.9.7"),
        (["0.33.0", ""], "0.33.0"),
        (["0.33.0", "0.33.0-rc2"], "0.33.0-rc2"),
        (["0.33.0-rc10", "0.33.0-rc2"], "0.33.0-rc2"),
        (["0.33.1", "custom-build"], "custom-build"),
    ],
)
def test_the_oldest_version_is_what_all_understand(versions: list[str], oldest: str) -> None:
    fleet = [backend(str(number), {}, version=version) for number, version in enumerate(versions)]
    fleet.append(backend("away", {}, healthy=False, version="0.0.1"))
    for order in permutations(fleet):
        assert catalogue.oldest_version(order) == oldest
