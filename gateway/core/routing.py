"""Which backend a call should go to: a pure order over a snapshot, decided apart from being acted on."""

from collections.abc import Iterable, Sequence

from msgspec import Struct


class ModelCard(Struct, frozen=True):
    """A model the fleet has: canonical name, unix seconds of its newest copy, how many backends have it."""

    name: str
    modified_s: int
    backends: int


class Model(Struct, frozen=True):
    """A model as one backend has it: its own spelling, unix seconds of its last change, what it can do.

    `capabilities` is empty where the backend does not say.
    """

    spelling: str
    modified_s: int = 0
    capabilities: frozenset[str] = frozenset()

    @property
    def completes(self) -> bool:
        """Whether it makes text."""
        return not self.capabilities or "completion" in self.capabilities

    @property
    def thinks(self) -> bool:
        return "thinking" in self.capabilities


class Backend(Struct, frozen=True, kw_only=True):
    """One backend as it was last seen. `models` goes by canonical name."""

    name: str
    url: str
    healthy: bool
    models: dict[str, Model]
    loaded: frozenset[str] = frozenset()
    in_flight: int = 0


def rank(backends: Iterable[Backend], model: str) -> list[Backend]:
    """Backends worth trying for the canonical `model`, best first; same input, same order.

    Loaded goes before idle, for a load costs more than a short wait. Unhealthy ones stay, last: a wrong probe must not
    become an error while there is nothing better to try.
    """
    able = [backend for backend in backends if model in backend.models]
    return sorted(able, key=lambda b: (not b.healthy, model not in b.loaded, b.in_flight, b.name))


def objection(backends: Sequence[Backend], model: str) -> str:
    """Why nothing can serve `model` now: "", "no_backend" while none that may have it answers, "model_not_found"."""
    able = [backend for backend in backends if model in backend.models]
    if any(backend.healthy for backend in able):
        return ""
    if able or not any(backend.healthy for backend in backends):
        return "no_backend"
    return "model_not_found"


def catalogue(backends: Iterable[Backend]) -> list[ModelCard]:
    """Every model of the healthy backends once, by name."""
    found: dict[str, tuple[int, int]] = {}
    for backend in backends:
        if backend.healthy:
            for name, model in backend.models.items():
                newest, copies = found.get(name, (0, 0))
                found[name] = (max(newest, model.modified_s), copies + 1)
    return [ModelCard(name, modified_s, copies) for name, (modified_s, copies) in sorted(found.items())]


def default_model(backends: Iterable[Backend]) -> str | None:
    """The first model, by name, that any healthy backend can make text with."""
    names = (name for b in backends if b.healthy for name, model in b.models.items() if model.completes)
    return min(names, default=None)
