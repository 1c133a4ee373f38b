"""The fleet's models as a library: what one of them is, and how a new one gets in."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import httpx

from gateway.backends import lookup
from gateway.backends.shows import Shows
from gateway.backends.view import FleetView
from gateway.core import routing
from gateway.core.fleet import Node
from gateway.core.routing import Model, Wanted
from gateway.dialects.frames import Lines
from gateway.dialects.native import pull as native_pull
from gateway.dialects.native.pull import Progress
from gateway.dialects.native.show import Shown
from gateway.errors import BackendFault, BackendTimeout, BackendUnreachable, GatewayError, StreamBroken

ATTEMPTS_MAX = 2
PULLS_AT_ONCE = 16
"""upstream, of all requests to this replica together; others wait for their turn"""
CONNECT_S = 5.0
IDLE_S = 900.0
"""a node says nothing while it checks what it has read: minutes, for a big model on a slow disk"""
PULL_S_MAX = 86_400.0
REFUSAL_BYTES_MAX = 64 << 10


class Library:
    """Keeps `ports.Library`. `relist` lists a backend's models again at once."""

    def __init__(self, view: FleetView, shows: Shows, relist: Callable[[str], Awaitable[None]]) -> None:
        self._view = view
        self._shows = shows
        self._relist = relist
        self._turns = asyncio.Semaphore(PULLS_AT_ONCE)

    async def show(self, name: str) -> tuple[Model, Shown]:
        """What a backend has under a canonical name, as the best ones say. Raises `BackendFault` when none does."""
        for candidate in routing.rank(self._view.snapshot(), Wanted(model=name))[:ATTEMPTS_MAX]:
            node, backend = self._view.node(candidate.backend), self._view.backend(candidate.backend)
            if node is None or backend is None:
                continue
            model = backend.models[name]
            try:
                return model, await self._shows.of(node, model)
            except lookup.SILENCE:
                continue
        raise BackendFault("No model server behind this gateway says what that model is. Try again shortly.")

    async def pull(self, backend: str, model: str) -> AsyncGenerator[Progress, None]:
        """Pull `model` onto one backend; once the steps have ended it is listed and can be called.

        Closing the iterator cancels the pull. Raises a `BackendFault` with the reason.
        """
        node = self._view.node(backend)
        if node is None:
            raise BackendUnreachable
        try:
            async with self._turns, asyncio.timeout(PULL_S_MAX):
                async for progress in _pull(node, model):
                    yield progress
        except (httpx.TimeoutException, TimeoutError):
            raise BackendTimeout from None
        except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
            raise BackendUnreachable from error
        except httpx.HTTPError as error:
            raise StreamBroken("The model server stopped before the pull was complete.") from error
        await self._relist(backend)


async def _pull(node: Node, model: str) -> AsyncGenerator[Progress, None]:
    """The steps of one pull up to its success."""
    patience = httpx.Timeout(IDLE_S, connect=CONNECT_S)
    lines, last = Lines(), Progress()
    async with lookup.client_for(node, patience) as http:
        request = lookup.request(node, "/api/pull", native_pull.encode(model), patience)
        async with aclosing(await http.send(request, stream=True)) as reply:
            if lookup.is_encoded(reply):
                raise BackendFault("The model server sent an encoded answer, which was not asked for.")
            if reply.status_code != 200:
                raise await _refusal(reply)
            async for piece in reply.aiter_raw():
                for line in lines.feed(piece):
                    last = native_pull.read(line)
                    yield last
            for line in lines.rest():
                last = native_pull.read(line)
                yield last
    if last.status != native_pull.SUCCESS:
        raise StreamBroken("The model server stopped before the pull was complete.")


async def _refusal(reply: httpx.Response) -> GatewayError:
    body = bytearray()
    async for piece in reply.aiter_raw():
        body += piece
        if len(body) > REFUSAL_BYTES_MAX:
            break
    try:
        native_pull.read(bytes(body))
    except GatewayError as refusal:
        return refusal
    return BackendFault()
