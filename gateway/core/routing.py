"""Which backend a call should go to: a pure order over a snapshot, decided apart from being acted on."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from gateway.errors import CloudBlocked, GatewayError, ModelNotFound, NoBackend

OBJECTIONS: dict[str, type[GatewayError]] = {
    "no_backend": NoBackend,
    "model_not_found": ModelNotFound,
    "cloud": CloudBlocked,
}
"""what each objection to a model is told as"""


class Details(Struct, frozen=True):
    """What kind of model it is, in Ollama's words. "" and 0: the backend does not say."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int = 0
    embedding_length: int = 0


class Model(Struct, frozen=True):
    """A model as one backend has it: its own spelling, unix seconds of its last change, what it can do.

    `capabilities` is empty where the backend does not say. `digest` names its whole content, settings included.
    """

    spelling: str
    modified_s: int = 0
    capabilities: frozenset[str] = frozenset()
    modified_at: str = ""
    size_bytes: int = 0
    digest: str = ""
    details: Details = Details()

    @property
    def completes(self) -> bool:
        """Whether it makes text."""
        return not self.capabilities or "completion" in self.capabilities

    @property
    def thinks(self) -> bool:
        return "thinking" in self.capabilities


class Loaded(Struct, frozen=True):
    """A model in a backend's memory. `expires_s` is `expires_at` in unix seconds."""

    expires_at: str = ""
    expires_s: float = 0.0
    size_bytes: int = 0
    vram_bytes: int = 0
    context_tokens: int = 0


class Backend(Struct, frozen=True, kw_only=True):
    """One backend as it was last seen. `models` and `loaded` go by canonical name; `version` is Ollama's.

    `remote` are names of models that it would only pass on to another site, which is not wanted.
    """

    name: str
    url: str
    healthy: bool
    models: dict[str, Model]
    loaded: dict[str, Loaded] = {}
    remote: frozenset[str] = frozenset()
    version: str = ""
    in_flight: int = 0


def rank(backends: Iterable[Backend], model: str) -> list[Backend]:
    """Backends worth trying for the canonical `model`, best first; same input, same order.

    Loaded goes before idle, for a load costs more than a short wait. Unhealthy ones stay, last: a wrong probe must not
    become an error while there is nothing better to try.
    """
    able = [backend for backend in backends if model in backend.models]
    return sorted(able, key=lambda b: (not b.healthy, model not in b.loaded, b.in_flight, b.name))


def objection(backends: Sequence[Backend], model: str) -> str:
    """Why nothing can serve `model` now: "", "no_backend" while none that may have it answers, "cloud" where it is only
    passed on, "model_not_found"."""
    able = [backend for backend in backends if model in backend.models]
    if any(backend.healthy for backend in able):
        return ""
    if not able and any(model in backend.remote for backend in backends):
        return "cloud"
    if able or not any(backend.healthy for backend in backends):
        return "no_backend"
    return "model_not_found"


def default_model(backends: Iterable[Backend]) -> str | None:
    """The first model, by name, that any healthy backend can make text with."""
    names = (name for b in backends if b.healthy for name, model in b.models.items() if model.completes)
    return min(names, default=None)
