"""What the pipeline and the web need of the world.

Adapters satisfy these by shape; `app.py` constructs them, tests pass fakes that keep the same contract tests.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.core.breaker import Breaker
from gateway.core.call import Account, Admission, Bill, Call, Explanation, Queued, Statement
from gateway.core.catalogue import ModelCard
from gateway.core.fleet import Alias, Node
from gateway.core.keys import Credential
from gateway.core.limits import Estimate
from gateway.core.placing import Ask, Foreseen, Freed, Full, Left, News, Placed, Waiting
from gateway.core.routing import Backend, Model
from gateway.core.tally import Tally
from gateway.dialects.native.pull import Progress
from gateway.dialects.native.show import Shown
from gateway.errors import GatewayError


class Leases(Protocol):
    """The lease of each running call, from admission to settlement."""

    async def open(self, call: Call, tally: Tally, cut: Callable[[GatewayError], object], objection: str) -> Admission:
        """Admit the call and keep its lease alive from `tally`. Raises the refusal; then nothing is held.

        `cut` is called when the lease is lost: somebody took the call for dead and has settled it.

        `objection` is a reason the replica already has against it (`Fleet.turns_away`), told only to someone with a
        valid key.
        """

    def progressed(self, tally: Tally) -> None:
        """The call has come further; every so many tokens the lease is told."""

    async def close(self, call: Call, bill: Bill) -> None:
        """Settle the call. When Redis is away the bill is kept and settled later; never raises."""


class Exchange(Protocol):
    """An answer that has begun: its head has arrived and was a success."""

    async def whole(self) -> bytes:
        """The complete body. Raises a `BackendFault`."""

    def leave(self) -> None:
        """No more of it is wanted: the connection is closed, which ends the work upstream."""

    async def read(self, take: Callable[[bytes], bool]) -> None:
        """Gives `take` the body as it arrives, what arrived together as one piece, until that says it has enough or
        there is no more. Raises a `BackendFault`, and what `take` raises."""


class Fleet(Protocol):
    """All backends as one."""

    @property
    def settings_names(self) -> frozenset[str]:
        """Names of the nodes that the settings name."""

    def nodes(self) -> list[Node]:
        """All nodes, those of the settings as far as operators have not said otherwise."""

    def snapshot(self) -> list[Backend]:
        """All backends as they were last seen."""

    def breakers(self) -> dict[str, dict[str, Breaker]]:
        """By backend, then by model, "*" for the whole backend; those that are not there are as new."""

    def objection(self, model: str) -> str:
        """Why no backend can serve the canonical `model` now: "", "no_backend", "model_not_found" or "cloud"."""

    def turns_away(self, call: Call) -> str:
        """Why the call would be turned away now: an objection to its model, "line_full", or ""."""

    def models(self) -> list[ModelCard]:
        """Every model of the fleet once, by name."""

    def default_model(self) -> str | None:
        """The model of plain requests that name none."""

    def alias(self, name: str) -> Alias | None:
        """What an operator means by a canonical name; it wins over a model of that name."""

    def aliases(self) -> list[Alias]:
        """All of them."""

    async def foresee(self, call: Call, weight: int) -> Foreseen:
        """What would become of the call now, its key having that weight in the line. Changes nothing.

        Raises `LimitsUnavailable`.
        """

    def exchange(
        self, call: Call, admission: Admission, output_tokens_max: int, tally: Tally, told: Callable[[Queued], object]
    ) -> AbstractAsyncContextManager[Exchange]:
        """Wait for a slot on the best backend, ask it, the next best where that helps, and give the answer of the one
        that answered.

        Raises a `BackendFault`, `Unavailable`, or the client's own mistake as the backend worded it. `tally` is told
        which backend has the prompt, `told` where in the line the call is while it waits.
        """


class Placement(Protocol):
    """Slots and the waiting line, of all replicas together. Every method raises `LimitsUnavailable`."""

    async def place(self, ask: Ask, *, depth_max: int, waits: bool) -> Placed | Waiting | Full:
        """A slot, a place in the line (or what it would be, if the call does not wait), or no room in it."""

    async def foresee(self, ask: Ask, *, depth_max: int) -> tuple[Placed | Waiting | Full, str]:
        """What `place` would say, and which backend served the beginning of the prompt last ("": none is known).
        Changes nothing."""

    async def leave(self, left: Sequence[Left]) -> list[Freed | None]:
        """Give slots back, or places in the line; None for an attempt that held no slot."""

    async def hold(self, held: Iterable[tuple[str, str, str, str, bool]]) -> int:
        """Renew slots: (id, backend, model, key id, whether it loads the model). How many had to be taken again."""

    async def loaded(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Backends have models that were being loaded there. How many loads have ended by that."""

    async def sync(self, version: int, revision: int, *, rates: bool, turns: dict[str, int]) -> News:
        """What is new since the registry's version and the revision; `turns`: what is to be done, and how many ms
        later again."""

    async def saw(self, told: dict[str, bytes]) -> None:
        """Tell all replicas something of backends."""

    async def judge(self, name: str, was: Breaker, to_be: Breaker) -> tuple[int, Breaker | None]:
        """Change a breaker that still is what it `was`. Redis' ms; None, or what it is instead."""


class FleetObserver(Protocol):
    """Hears what becomes of backends, for logs and metrics. Never waits and never raises."""

    def placed(self, backend: str, model: str, waited_ms: int, *, cached: bool) -> None:
        """A call has a slot; `cached`: where the beginning of its prompt was served last."""

    def retried(self, code: str) -> None:
        """A call is sent to another backend, because of an error with that code."""

    def ejected(self, backend: str, model: str, seconds: float) -> None:
        """It gets no calls for so long, and then until it has generated something; "*": the whole backend."""

    def returned(self, backend: str, model: str) -> None:
        """It gets calls again."""

    def recycled(self, backend: str, model: str) -> None:
        """A silent model is unloaded."""


class Library(Protocol):
    """The fleet's models as a library."""

    async def show(self, name: str) -> tuple[Model, Shown]:
        """A copy of the model with a canonical name, and what its backend says of it. Raises a `BackendFault`."""

    def pull(self, backend: str, model: str) -> AsyncGenerator[Progress, None]:
        """Pull a model onto one backend; at its end the model can be called. Closing it cancels the pull.

        Raises a `BackendFault` with the reason.
        """


class Observer(Protocol):
    """Hears of every request, for logs and metrics. Never waits and never raises."""

    def refused(self, endpoint: str, call_id: str, error: GatewayError, call: Call | None = None) -> None:
        """Nothing was admitted, nothing is charged. `call`: what it would have been, when it was read that far."""

    def admitted(self, call: Call, admission: Admission) -> None:
        """A call was let in, perhaps only because its limits are in shadow."""

    def ended(self, call: Call, admission: Admission, bill: Bill) -> None:
        """An admitted call is settled, or will be."""

    def surprised(self, endpoint: str, call_id: str, error: Exception) -> None:
        """Something nobody planned for: a bug."""


class Inspector(Protocol):
    """What Redis knows of a key. Every method raises `LimitsUnavailable`."""

    async def inspect(self, credential: Credential, source: str) -> Statement:
        """What the key's holder, at the address `source`, has left. Raises `Unauthorized` or `AddressNotAllowed`."""

    async def statement(self, key_id: str) -> Statement:
        """The same for an operator: of any key, also one that is revoked. Raises `KeyNotFound`."""

    async def team(self, team_id: str) -> tuple[str, Account]:
        """The month, and what the team has used of it. Raises `KeysNotLoaded` while Redis does not have the team."""

    async def explain(self, key_id: str, model: str, estimate: Estimate) -> Explanation:
        """What admission would say of such a call. Changes nothing. Raises `KeyNotFound`."""
