"""What a replica knows: what operators say, over its settings; what probes, breakers and Redis say, put together."""

from typing import Any

from gateway.backends.view import FleetView, Listing, State
from gateway.core.breaker import Breaker, encode
from gateway.core.fleet import Alias, Node, Registry
from gateway.core.placing import News, breaker_name
from gateway.core.routing import Backend, Loaded, Model, Rates

A, B = Node(name="a", url="http://a", slots=2), Node(name="b", url="http://b", bearer="secret")
M = "m:latest"
EJECTED = Breaker(failures=3, ejections=1, until_ms=9)


def news(revision: int = 1, **said: Any) -> News:
    nothing = {"now_ms": 5, "version": 0, "registry": None, "told": {}, "busy": {}, "loads": {}, "depths": {}}
    return News(**nothing | {"rates": None, "turns": [], "revision": revision} | said)  # type: ignore[arg-type]


def names(view: FleetView) -> list[str]:
    return [backend.name for backend in view.snapshot()]


def test_nodes_of_the_settings_are_there_before_anything_is_known() -> None:
    view = FleetView([A, B])
    assert names(view) == ["a", "b"]
    assert (view.settings_names, view.snapshot()[0].healthy, view.snapshot()[0].slots) == ({"a", "b"}, False, 2)


def test_what_operators_say_overrides_the_settings_and_can_be_taken_back() -> None:
    """But not where the node is: that the settings say."""
    view = FleetView([A])
    said = Registry(version=3, nodes=(Node(name="a", url="http://other", slots=9, draining=True), B))
    view.apply(news(version=3, registry=said))
    seen = view.backend("a")
    assert seen
    assert (names(view), seen.slots, seen.draining, seen.url, view.version) == (["a", "b"], 9, True, A.url, 3)
    view.apply(news(version=4, registry=Registry(version=4)))
    assert (names(view), view.node("a"), view.node("b")) == (["a"], A, None)


def test_a_node_of_the_settings_that_operators_have_named_is_one_node() -> None:
    view = FleetView([A])
    view.apply(news(version=1, registry=Registry(version=1, nodes=(Node(name="gpu", url=A.url),))))
    assert names(view) == ["gpu"]


def test_a_node_that_is_gone_is_told_to_be_away() -> None:
    heard: list[Backend] = []
    view = FleetView([], on_change=heard.append)
    view.apply(news(version=1, registry=Registry(version=1, nodes=(A,))))
    view.saw("a", State(True), Listing({M: Model(M)}))
    view.apply(news(version=2, registry=Registry(version=2)))
    assert (heard[-1].name, heard[-1].healthy, heard[-1].models) == ("a", False, {})


def test_a_node_that_comes_back_is_a_new_one() -> None:
    view, there = FleetView([]), Registry(version=1, nodes=(A,))
    view.apply(news(version=1, registry=there))
    view.saw("a", State(True), Listing({M: Model(M)}))
    view.judged("a", "*", EJECTED)
    view.apply(news(version=2, registry=Registry(version=2)))
    view.apply(news(version=3, registry=there))
    (seen,) = view.snapshot()
    assert (seen.healthy, seen.models, seen.ejected) == (False, {}, frozenset())
    assert set(view.saw("a", State(True), Listing({M: Model(M)}))) == {"state:a", "models:a"}, "others are told again"


def test_aliases_are_what_the_registry_says() -> None:
    view = FleetView([])
    view.apply(news(version=1, registry=Registry(version=1, aliases=(Alias(name="fast:latest", targets=(M,)),))))
    assert view.aliases["fast:latest"].targets == (M,)
    view.apply(news(version=1))
    assert "fast:latest" in view.aliases, "no news is no change"


def test_what_others_found_is_taken_in() -> None:
    first, second = FleetView([A]), FleetView([A])
    told = first.saw("a", State(True, 0, "0.33.0", {M: Loaded(context_tokens=4_096)}), Listing({M: Model(M)}))
    second.apply(news(told=told))
    assert second.snapshot() == first.snapshot()
    assert second.saw("a", first.state("a"), first.listing("a")) == {}, "so there is nothing to tell"
    second.apply(news(2, told={"state:a": b"", "models:a": b""}))
    assert (second.state("a"), second.listing("a")) == (State(), Listing())


def test_a_backend_is_ejected_by_what_its_breakers_say() -> None:
    view = FleetView([A])
    view.apply(news(told={breaker_name("a"): encode(EJECTED), breaker_name("a", M): encode(EJECTED)}))
    assert view.snapshot()[0].ejected == {"*", M}
    view.apply(news(2, told={breaker_name("a"): b""}))
    assert view.snapshot()[0].ejected == {M}
    view.judged("a", M, Breaker(failures=1))
    assert view.snapshot()[0].ejected == frozenset()
    assert view.breakers() == {"a": {M: Breaker(failures=1)}}


def test_breakers_that_redis_has_lost_are_closed() -> None:
    view = FleetView([A])
    view.apply(news(7, told={breaker_name("a"): encode(EJECTED)}))
    view.apply(news(2))
    assert (view.snapshot()[0].ejected, view.revision) == (frozenset(), 2)


def test_busy_loads_rates_and_depths_are_those_of_the_last_news() -> None:
    view = FleetView([A])
    rates = {("a", M): Rates(calls=3)}
    view.apply(news(busy={"a": 2, f"a {M}": 1}, loads={"a": M}, depths={M: 4}, rates=rates))
    seen = view.snapshot()[0]
    assert (seen.busy, seen.loading, seen.rates, view.busy("a", M), view.depths) == (
        2,
        M,
        {M: Rates(calls=3)},
        1,
        {M: 4},
    )
    view.apply(news())
    seen = view.snapshot()[0]
    assert (seen.busy, seen.loading, seen.rates, view.busy("a", M)) == (0, "", {M: Rates(calls=3)}, 0)


def test_own_calls_count_before_the_news_say_so() -> None:
    view = FleetView([A])
    view.took("a", 1)
    view.took("gone", 1)
    assert view.snapshot()[0].busy == 1
    for _ in range(2):
        view.took("a", -1)
    assert view.snapshot()[0].busy == 0


def test_a_version_that_is_too_old_is_refused_and_one_that_is_not_said_is_not() -> None:
    view = FleetView([A], version_min="0.12.4")
    for version, refused in (("0.12.3", True), ("0.12.4", False), ("", False)):
        view.saw("a", State(True, 0, version))
        assert view.snapshot()[0].refused is refused
