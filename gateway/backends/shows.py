"""What nodes say of each model at /api/show, asked once for each digest: a digest names all of a model's content."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from gateway.backends import lookup
from gateway.backends.lookup import Lookup
from gateway.core.fleet import Node
from gateway.core.routing import Model
from gateway.dialects.native import show as native_show
from gateway.dialects.native.show import Shown

SHOWN_MAX = 512
SHOW_BYTES_MAX = 2 << 20
CLIENTS_AT_ONCE = 4
LEARNERS = 2
"""requests to one backend at once, for all clients together and for its prober: neither waits for the other's"""
TURN_S = 10.0
LEARN_S_MAX = 10.0
"""how long a prober may stay with the models that are new to it"""
_Question = tuple[str, str]
"""a backend's URL and a digest; not the digest alone, for a backend that hangs must not hold up another's answer"""


class Shows:
    """Keeps the last SHOWN_MAX of them. Whoever asks what is being asked already shares that answer."""

    def __init__(self, nodes: Lookup) -> None:
        self._nodes = nodes
        self._clients = defaultdict[str, asyncio.Semaphore](partial(asyncio.Semaphore, CLIENTS_AT_ONCE))
        self._learners = defaultdict[str, asyncio.Semaphore](partial(asyncio.Semaphore, LEARNERS))
        self._kept: dict[str, Shown] = {}
        self._told: dict[str, Model] = {}
        """by digest, models that another replica has asked about"""
        self._flights: dict[_Question, asyncio.Task[Shown]] = {}

    async def close(self) -> None:
        """End what is being asked."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def of(self, node: Node, model: Model) -> Shown:
        """What the node says of one of its models. Raises one of `lookup.SILENCE`."""
        return await self._answer(node, model, self._clients[node.url])

    def remember(self, models: Iterable[Model]) -> None:
        """What other replicas have heard at /api/show, so that it is not asked again."""
        self._told |= {model.digest: model for model in models if model.shown and model.digest}
        while len(self._told) > SHOWN_MAX:
            del self._told[next(iter(self._told))]

    def unknown(self, models: Iterable[Model]) -> list[Model]:
        """Those that nobody has asked about yet, as far as is known here."""
        known = self._kept.keys() | self._told.keys()
        return [model for model in models if model.digest and model.digest not in known]

    async def learn(self, node: Node, models: Iterable[Model]) -> None:
        """Ask about those that are not known yet, for LEARN_S_MAX at most. What fails is asked again another time."""
        unknown = self.unknown(models)

        async def learner() -> None:
            while unknown:
                model = self._take(node.url, unknown)
                with suppress(*lookup.SILENCE):
                    await self._answer(node, model, self._learners[node.url])

        with suppress(TimeoutError):
            async with asyncio.timeout(LEARN_S_MAX):
                await asyncio.gather(*(learner() for _ in range(LEARNERS)))

    def corrected(self, model: Model) -> Model:
        """The model with what /api/show says of it, which is right where a list of models is not."""
        shown, told = self._kept.get(model.digest), self._told.get(model.digest)
        if shown is None and told is not None:
            return replace(model, capabilities=told.capabilities, details=told.details, shown=True)
        if shown is None:
            return model
        lengths = {f"{of}_length": shown.length(of) for of in ("context", "embedding") if shown.length(of)}
        return replace(
            model,
            capabilities=frozenset(shown.capabilities) or model.capabilities,
            details=replace(model.details, **lengths),
            shown=True,
        )

    def _take(self, url: str, unknown: list[Model]) -> Model:
        """One that nobody asks about, while there is one: a client's question may be waiting for its turn."""
        return unknown.pop(min(range(len(unknown)), key=lambda at: _question(url, unknown[at]) in self._flights))

    async def _answer(self, node: Node, model: Model, turns: asyncio.Semaphore) -> Shown:
        """The answer that is kept, or on its way, or asked for now. Who stops waiting does not end it for others."""
        if model.digest in self._kept:
            return self._kept[model.digest]
        question = _question(node.url, model)
        flight = self._flights.get(question)
        if flight is None:
            flight = self._flights[question] = asyncio.create_task(self._ask(node, model, turns))
            flight.add_done_callback(partial(self._landed, question))
        return await asyncio.shield(flight)

    async def _ask(self, node: Node, model: Model, turns: asyncio.Semaphore) -> Shown:
        async with asyncio.timeout(TURN_S):
            await turns.acquire()
        try:
            if model.digest in self._kept:  # another backend was asked meanwhile
                return self._kept[model.digest]
            body = {"model": model.spelling}
            shown = native_show.read(await self._nodes.ask(node, "/api/show", body, bytes_max=SHOW_BYTES_MAX))
        finally:
            turns.release()
        self._keep(model.digest, shown)
        return shown

    def _landed(self, question: _Question, flight: asyncio.Task[Shown]) -> None:
        """Its error, if any, is looked at here too: nobody may be waiting for it any more."""
        del self._flights[question]
        if not flight.cancelled():
            flight.exception()

    def _keep(self, digest: str, shown: Shown) -> None:
        if digest:
            self._kept[digest] = shown
        while len(self._kept) > SHOWN_MAX:
            del self._kept[next(iter(self._kept))]


def _question(url: str, model: Model) -> _Question:
    return url, model.digest or model.spelling
