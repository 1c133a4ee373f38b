"""What the pipeline and the web need of the world.

Adapters satisfy these by shape; `app.py` alone constructs them, tests pass fakes that keep the same contract tests.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.core.call import Account, Admission, Bill, Call, Explanation, Statement
from gateway.core.catalogue import ModelCard
from gateway.core.keys import Credential
from gateway.core.limits import Estimate
from gateway.core.routing import Model
from gateway.core.tally import Tally
from gateway.dialects.native.pull import Progress
from gateway.dialects.native.show import Shown
from gateway.errors import GatewayError


class Leases(Protocol):
    """The lease of each running call, from admission to settlement."""

    async def open(self, call: Call, tally: Tally, cut: Callable[[GatewayError], object], objection: str) -> Admission:
        """Admit the call and keep its lease alive from `tally`. Raises the refusal; then nothing is held.

        `cut` is called when the lease is lost: somebody took the call for dead and has settled it.

        `objection` is a reason the replica already has against it ("no_backend", "model_not_found"), told only to
        someone with a valid key.
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

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; what arrived together is one piece. Raises a `BackendFault`."""


class Fleet(Protocol):
    """All backends as one."""

    def objection(self, model: str) -> str:
        """Why no backend can serve the canonical `model` now: "", "no_backend", "model_not_found" or "cloud"."""

    def models(self) -> list[ModelCard]:
        """Every model of the fleet once, by name."""

    def default_model(self) -> str | None:
        """The model of plain requests that name none."""

    def exchange(self, call: Call, output_tokens_max: int, tally: Tally) -> AbstractAsyncContextManager[Exchange]:
        """Ask the best backend, the next best where that helps, and give the answer of the one that answered.

        Raises a `BackendFault`, `Unavailable`, or the client's own mistake as the backend worded it. `tally` is told
        which backend has the prompt.
        """


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

    def refused(self, endpoint: str, call_id: str, error: GatewayError) -> None:
        """Nothing was admitted, nothing is charged."""

    def admitted(self, call: Call, admission: Admission) -> None:
        """A call was let in, perhaps only because its limits are in shadow."""

    def ended(self, call: Call, bill: Bill) -> None:
        """An admitted call is settled, or will be."""

    def surprised(self, call: Call, error: Exception) -> None:
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
