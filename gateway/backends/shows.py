"""What nodes say of each model at /api/show, asked once for each digest: a digest names all of a model's content."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import httpx
from msgspec.structs import replace

from gateway.backends import lookup
from gateway.core.routing import Model
from gateway.dialects.native import show as native_show
from gateway.dialects.native.show import Shown

SHOWN_MAX = 512
SHOW_BYTES_MAX = 2 << 20
SHOWS_AT_ONCE = 16
LEARNERS = 2
"""requests to one backend at once that a prober makes"""
LEARN_S_MAX = 10.0
"""how long a prober may stay with the models that are new to it"""


class Shows:
    """Keeps the last SHOWN_MAX of them."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._turns = asyncio.Semaphore(SHOWS_AT_ONCE)
        self._kept: dict[str, Shown] = {}

    async def of(self, url: str, model: Model) -> Shown:
        """What the backend at `url` says of one of its models. Raises one of `lookup.SILENCE`."""
        async with self._turns:
            if model.digest in self._kept:
                return self._kept[model.digest]
            body = {"model": model.spelling}
            shown = native_show.read(await lookup.ask(self._http, url + "/api/show", body, bytes_max=SHOW_BYTES_MAX))
        self._keep(model.digest, shown)
        return shown

    async def learn(self, url: str, models: Iterable[Model]) -> None:
        """Ask about those that are not known yet, for LEARN_S_MAX at most. What fails is asked again another time."""
        unknown = iter([model for model in models if model.digest and model.digest not in self._kept])

        async def learner() -> None:
            for model in unknown:
                with suppress(*lookup.SILENCE):
                    await self.of(url, model)

        with suppress(TimeoutError):
            async with asyncio.timeout(LEARN_S_MAX):
                await asyncio.gather(*(learner() for _ in range(LEARNERS)))

    def corrected(self, model: Model) -> Model:
        """The model with what /api/show says of it, which is right where a list of models is not."""
        shown = self._kept.get(model.digest)
        if shown is None:
            return model
        lengths = {f"{of}_length": shown.length(of) for of in ("context", "embedding") if shown.length(of)}
        return replace(
            model,
            capabilities=frozenset(shown.capabilities) or model.capabilities,
            details=replace(model.details, **lengths),
        )

    def _keep(self, digest: str, shown: Shown) -> None:
        if digest:
            self._kept[digest] = shown
        while len(self._kept) > SHOWN_MAX:
            del self._kept[next(iter(self._kept))]
