"""Asks a node which models it has and which it has loaded, and tells this replica and, through Redis, all others."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from msgspec.structs import replace

from gateway.backends import inventory, lookup
from gateway.backends.lookup import Lookup
from gateway.backends.shows import Shows
from gateway.backends.view import FleetView, Listing, State
from gateway.core.fleet import Node

Claim = Callable[[set[str]], Awaitable[set[str]]]
PROBE_S_MAX = 10.0
MISSES_MAX = 2


async def _all(digests: set[str]) -> set[str]:
    return digests


class Prober:
    """`publish` tells other replicas; `loaded` hears (backend, model) of every model that is in a node's memory.

    `claim` says which of some digests of models fall to this replica to ask about, now.
    """

    def __init__(
        self,
        *,
        view: FleetView,
        nodes: Lookup,
        shows: Shows,
        publish: Callable[[dict[str, bytes]], Awaitable[None]],
        loaded: Callable[[str, str], None],
        claim: Claim = _all,
        allow_cloud: bool = False,
    ) -> None:
        self._view = view
        self._nodes = nodes
        self._shows = shows
        self._publish = publish
        self._loaded = loaded
        self._claim = claim
        self._allow_cloud = allow_cloud
        self._turns: dict[str, asyncio.Lock] = {}
        self._unlisted: set[str] = set()
        """nodes whose models were to be listed while they were being asked something"""

    async def probe_all(self) -> None:
        """One round over all nodes, so that a replica knows its fleet before it says that it is ready."""
        probes = (self.probe(node.name, afresh=True) for node in self._view.nodes())
        await asyncio.gather(*probes, return_exceptions=True)  # no node may keep a replica from starting

    async def relist(self, name: str) -> None:
        """Ask for its models again now."""
        self._unlisted.add(name)
        await self._in_turn(name)

    async def probe(self, name: str, *, afresh: bool) -> None:
        """Ask one node and tell; `afresh`: its models too, which are listed anyway while none are known.

        Not while it is being asked already: questions to a node that hangs must not pile up.
        """
        if afresh:
            self._unlisted.add(name)
        turn = self._turns.get(name)
        if turn is None or not turn.locked():
            await self._in_turn(name)

    async def _in_turn(self, name: str) -> None:
        async with self._turns.setdefault(name, asyncio.Lock()):
            node = self._view.node(name)
            if node is not None:
                afresh = name in self._unlisted or not self._view.listing(name).models
                self._unlisted.discard(name)
                await self._probe(node, afresh=afresh)
        if node is None:
            self._turns.pop(name, None)

    async def _probe(self, node: Node, *, afresh: bool) -> None:
        try:
            async with asyncio.timeout(PROBE_S_MAX):
                listing = await self._list(node) if afresh else self._view.listing(node.name)
                version = await self._version(node)
                loaded = inventory.read_loaded(await self._nodes.ask(node, "/api/ps"))
        except lookup.SILENCE:
            await self._missed(node.name)
            return
        await self._publish(self._view.saw(node.name, State(True, 0, version, loaded), listing))
        backend = self._view.backend(node.name)
        if backend and backend.loading in loaded:
            self._loaded(node.name, backend.loading)
        if afresh:
            await self._learn(node, listing)

    async def _learn(self, node: Node, listing: Listing) -> None:
        """Ask what its models can do, so far as nobody has asked, or asks now."""
        unknown = self._shows.unknown(listing.models.values())
        mine = await self._claim({model.digest for model in unknown}) if unknown else set()
        await self._shows.learn(node, [model for model in unknown if model.digest in mine])
        await self._publish(self._view.saw(node.name, self._view.state(node.name), self._corrected(listing)))

    async def _version(self, node: Node) -> str:
        """As it says; a node that serves and says none is as good as others."""
        with suppress(*lookup.SILENCE):
            return inventory.read_version(await self._nodes.ask(node, "/api/version"))
        return self._view.state(node.name).version

    async def heard(self, names: Iterable[str]) -> None:
        """Other replicas have listed the models of these nodes: what they know of a digest is so on every node."""
        for name in names:
            self._shows.remember(self._view.listing(name).models.values())
        for node in self._view.nodes():
            listing = self._view.listing(node.name)
            if not all(model.shown for model in listing.models.values()):
                corrected = self._corrected(listing)
                await self._publish(self._view.saw(node.name, self._view.state(node.name), corrected))

    async def _list(self, node: Node) -> Listing:
        """The models. What /api/show has said before is in it."""
        found = inventory.read_models(await self._nodes.ask(node, "/api/tags"), cloud=self._allow_cloud)
        self._shows.remember(self._view.listing(node.name).models.values())
        return self._corrected(Listing(found.models, found.remote))

    def _corrected(self, found: Listing) -> Listing:
        return replace(found, models={name: self._shows.corrected(model) for name, model in found.models.items()})

    async def _missed(self, name: str) -> None:
        """One miss may be chance; several on end mean that the node is away. Its models are remembered."""
        state = self._view.state(name)
        misses = min(state.misses + 1, MISSES_MAX)
        away = misses >= MISSES_MAX
        lost = State(healthy=state.healthy and not away, misses=misses, version=state.version)
        await self._publish(self._view.saw(name, lost if away else replace(state, misses=misses)))
