"""What this replica knows of the fleet: what operators say, what probes found, which breakers are open, who is busy.

It is told by its own probes and by the news of the other replicas; what it says is a snapshot, ready to be ranked.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.core import breaker
from gateway.core.breaker import Breaker
from gateway.core.fleet import Alias, Node, Registry
from gateway.core.placing import BREAKER, LISTING, STATE, News, told_name
from gateway.core.routing import Backend, Loaded, Model, Rates
from gateway.core.versions import older


class State(Struct, frozen=True, omit_defaults=True):
    """What the last probes found. `misses`: probes without an answer, on end."""

    healthy: bool = False
    misses: int = 0
    version: str = ""
    loaded: dict[str, Loaded] = {}


class Listing(Struct, frozen=True, omit_defaults=True):
    """The models a node has by canonical name; `remote`: names it would only pass on."""

    models: dict[str, Model] = {}
    remote: frozenset[str] = frozenset()


_state = msgspec.json.Decoder(State)
_listing = msgspec.json.Decoder(Listing)


class FleetView:
    """`nodes` are those of the settings. `on_change` hears of every backend that is another one now."""

    def __init__(
        self, nodes: Iterable[Node], *, version_min: str = "", on_change: Callable[[Backend], None] = lambda _: None
    ) -> None:
        self._settings = {node.name: node for node in nodes}
        self._version_min = version_min
        self._on_change = on_change
        self._states: dict[str, State] = {}
        self._listings: dict[str, Listing] = {}
        self._breakers: dict[str, dict[str, Breaker]] = defaultdict(dict)
        self._rates: dict[str, dict[str, Rates]] = {}
        self._busy: dict[str, int] = {}
        self._loads: dict[str, str] = {}
        self.depths: dict[str, int] = {}
        """calls that wait, by model"""
        self.version = self.revision = 0
        """of the registry, and of what is known of nodes"""
        self.now_ms = 0
        """Redis' clock at the last news"""
        self.forgotten = False
        """whether Redis had lost what replicas tell each other, at the last news"""
        self.aliases: dict[str, Alias] = {}
        self._nodes: dict[str, Node] = {}
        self._backends: dict[str, Backend] = {}
        self._register(Registry())

    @property
    def settings_names(self) -> frozenset[str]:
        """Names of the nodes that the settings name."""
        return frozenset(self._settings)

    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def node(self, name: str) -> Node | None:
        return self._nodes.get(name)

    def snapshot(self) -> list[Backend]:
        return list(self._backends.values())

    def backend(self, name: str) -> Backend | None:
        return self._backends.get(name)

    def has_model(self, model: str) -> bool:
        """Whether a node has, or had when it was last asked, the model of that canonical name."""
        return any(model in backend.models for backend in self._backends.values())

    def is_busy(self, model: str) -> bool:
        """Whether none of the nodes that have the model has a slot left."""
        return all(one.busy >= one.slots for one in self._backends.values() if model in one.models)

    def breakers(self) -> dict[str, dict[str, Breaker]]:
        """By backend, then by model or WHOLE_NODE. Those that are not there are as new."""
        return {name: dict(found) for name, found in self._breakers.items() if found}

    def busy(self, name: str, model: str) -> int:
        """Slots that calls of all replicas to one model have taken there, as the last news said."""
        return self._busy.get(f"{name} {model}", 0)

    def state(self, name: str) -> State:
        return self._states.get(name, State())

    def listing(self, name: str) -> Listing:
        return self._listings.get(name, Listing())

    def apply(self, news: News) -> None:
        """What is new since the last news."""
        changed = {name.partition(" ")[0] for name in _differ(self._busy, news.busy)}
        changed |= set(_differ(self._loads, news.loads))
        self.forgotten = news.revision < self.revision
        if self.forgotten:  # what Redis does not say is not so any more
            changed |= set(self._breakers)
            self._breakers.clear()
        self._busy, self._loads, self.depths = news.busy, news.loads, news.depths
        self.now_ms, self.revision = news.now_ms, news.revision
        changed |= {self._told(name, value) for name, value in news.told.items()}
        if news.rates is not None:
            changed |= self._learned(news.rates)
        if news.registry is not None:
            self.version = news.version
            self._register(news.registry)
        else:
            for name in changed:
                self._compose(name)

    def saw(self, name: str, state: State, listing: Listing | None = None) -> dict[str, bytes]:
        """A probe of our own has found this. What other replicas have to be told of it."""
        told = {}
        if state != self.state(name):
            self._states[name] = state
            told[told_name(STATE, name)] = _packed(state)
        if listing is not None and listing != self.listing(name):
            self._listings[name] = listing
            told[told_name(LISTING, name)] = _packed(listing)
        if told:
            self._compose(name)
        return told

    def found(self) -> dict[str, bytes]:
        """All that probes have found, as it is told."""
        told = {told_name(STATE, name): _packed(state) for name, state in self._states.items()}
        return told | {told_name(LISTING, name): _packed(listing) for name, listing in self._listings.items()}

    def judged(self, name: str, model: str, now: Breaker) -> None:
        """A breaker of a backend has changed."""
        self._keep_breaker(name, model, now)
        self._compose(name)

    def took(self, name: str, by: int) -> None:
        """A call of ours has a slot there, or has given it back: known before the news says so."""
        self._busy = self._busy | {name: max(0, self._busy.get(name, 0) + by)}
        backend = self._backends.get(name)
        if backend is not None:
            self._backends[name] = replace(backend, busy=self._busy[name])

    def _told(self, name: str, value: bytes) -> str:
        """Take one message of another replica in; the node it is about."""
        kind, _, node = name.partition(":")
        if kind == STATE:
            self._states[node] = _state.decode(value) if value else State()
        elif kind == LISTING:
            self._listings[node] = _listing.decode(value) if value else Listing()
        elif kind == BREAKER:
            node, _, model = node.partition(" ")
            self._keep_breaker(node, model, breaker.decode(value))
        return node

    def _keep_breaker(self, name: str, model: str, now: Breaker) -> None:
        if now == Breaker():
            self._breakers[name].pop(model, None)
        else:
            self._breakers[name][model] = now

    def _learned(self, rates: dict[tuple[str, str], Rates]) -> set[str]:
        found: dict[str, dict[str, Rates]] = defaultdict(dict)
        for (name, model), one in rates.items():
            found[name][model] = one
        changed = _differ(self._rates, found)
        self._rates = dict(found)
        return set(changed)

    def _register(self, registry: Registry) -> None:
        self.aliases = {alias.name: alias for alias in registry.aliases}
        self._nodes = self._of_settings(registry) | {node.name: self._at_home(node) for node in registry.nodes}
        for name in set(self._backends) - set(self._nodes):
            gone = self._backends.pop(name)
            for known in (self._states, self._listings, self._breakers):
                known.pop(name, None)
            self._on_change(replace(gone, healthy=False, models={}, loaded={}))
        for name in self._nodes:
            self._compose(name)

    def _of_settings(self, registry: Registry) -> dict[str, Node]:
        """Those of the settings, but for one that operators have named otherwise: it is one node all the same."""
        renamed = {node.url for node in registry.nodes if node.name not in self._settings}
        return {name: node for name, node in self._settings.items() if node.url not in renamed}

    def _at_home(self, node: Node) -> Node:
        """What operators say of a node of the settings, where the settings say it is."""
        known = self._settings.get(node.name)
        return replace(node, url=known.url) if known else node

    def _compose(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None:
            return
        state, listing = self.state(name), self.listing(name)
        found = self._breakers.get(name, {})
        self._backends[name] = backend = Backend(
            name=name,
            url=node.url,
            healthy=state.healthy,
            models=listing.models,
            loaded=state.loaded,
            remote=listing.remote,
            version=state.version,
            asked=state != State(),
            refused=bool(self._version_min and state.version) and older(state.version, self._version_min),
            slots=node.slots,
            weight=node.weight,
            draining=node.draining,
            busy=self._busy.get(name, 0),
            loading=self._loads.get(name, ""),
            ejected=frozenset(model for model, one in found.items() if breaker.ejected(one)),
            rates=self._rates.get(name, {}),
        )
        self._on_change(backend)


def _differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in {*old, *new} if old.get(name) != new.get(name)]


def _packed(what: State | Listing) -> bytes:
    """The same bytes for the same thing."""
    return msgspec.json.encode(what, order="deterministic")
