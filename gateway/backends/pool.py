"""All backends as one: what the prober last saw, the pure ranking, and one attempt after another."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec.structs import replace

from gateway.backends.client import Answer, OllamaClient
from gateway.backends.inventory import Inventory
from gateway.core import catalogue, names, routing
from gateway.core.call import Call
from gateway.core.catalogue import ModelCard
from gateway.core.routing import Backend, Loaded
from gateway.core.tally import Tally
from gateway.errors import BackendUnreachable, GatewayError, NoBackend

ATTEMPTS_MAX = 2


class Pool:
    """Keeps `ports.Fleet`. Knows no more than it is told by `saw` and `lost`; starts with every backend unseen."""

    def __init__(
        self, urls: Iterable[str], client: OllamaClient, default_model: str | None = None, *, allow_cloud: bool = False
    ) -> None:
        self._client = client
        self.allow_cloud = allow_cloud
        self._default_model = default_model
        self._backends = {name: Backend(name=name, url=url, healthy=False, models={}) for name, url in _named(urls)}
        self._in_flight = dict.fromkeys(self._backends, 0)
        self.suspected = {name: asyncio.Event() for name in self._backends}
        """set when a call could not reach a backend, so that it is probed at once"""

    def snapshot(self) -> list[Backend]:
        return list(self._backends.values())

    def saw(self, name: str, found: Inventory, loaded: dict[str, Loaded]) -> None:
        """A probe was answered."""
        self._backends[name] = replace(
            self._backends[name],
            healthy=True,
            models=found.models,
            remote=found.remote,
            loaded=loaded,
            version=found.version,
        )

    def lost(self, name: str) -> None:
        """A probe got no answer. Its models are remembered: they are tried when nothing better is there."""
        self._backends[name] = replace(self._backends[name], healthy=False, loaded={})

    def objection(self, model: str) -> str:
        if names.is_cloud(model) and not self.allow_cloud:
            return "cloud"
        return routing.objection(self.snapshot(), model)

    def models(self) -> list[ModelCard]:
        return catalogue.models(self.snapshot())

    def default_model(self) -> str | None:
        return self._default_model or routing.default_model(self.snapshot())

    @asynccontextmanager
    async def exchange(self, call: Call, output_tokens_max: int, tally: Tally) -> AsyncIterator[Answer]:
        async with AsyncExitStack() as attempt:
            yield await self._first_answer(call, output_tokens_max, tally, attempt)

    async def _first_answer(self, call: Call, output_tokens_max: int, tally: Tally, attempt: AsyncExitStack) -> Answer:
        """The answer of the first backend that gives one. A single backend is asked again if it could not be reached:
        the connection kept from the last call may have been closed meanwhile."""
        order = routing.rank(self._with_load(), call.model)
        failure: GatewayError = NoBackend()
        tried = ""
        for backend in (order * 2 if len(order) == 1 else order)[:ATTEMPTS_MAX]:
            if backend.name == tried and not isinstance(failure, BackendUnreachable):
                break
            tally.backend = tried = backend.name
            try:
                return await attempt.enter_async_context(self._ask(backend, call, output_tokens_max, tally))
            except GatewayError as error:
                failure = error
                if isinstance(error, BackendUnreachable):
                    self.suspected[backend.name].set()
                if not error.elsewhere:
                    break
        raise failure

    @asynccontextmanager
    async def _ask(self, backend: Backend, call: Call, output_tokens_max: int, tally: Tally) -> AsyncIterator[Answer]:
        model = backend.models[call.model]
        body = call.upstream.encode(
            model=model.spelling, stream=call.by_line, output_tokens_max=output_tokens_max, thinks=model.thinks
        )
        self._in_flight[backend.name] += 1
        try:
            async with self._client.exchange(backend.url + call.upstream.path, body, tally.sent) as answer:
                yield answer
        finally:
            self._in_flight[backend.name] -= 1

    def _with_load(self) -> list[Backend]:
        return [replace(backend, in_flight=self._in_flight[name]) for name, backend in self._backends.items()]


def _named(urls: Iterable[str]) -> list[tuple[str, str]]:
    """Each URL with the name that logs, rows and metrics use: host and port, which hold no secret."""
    return [(url.split("://", 1)[1], url) for url in dict.fromkeys(urls)]
