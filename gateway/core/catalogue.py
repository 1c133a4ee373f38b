"""What the whole fleet has, as one: models, loaded models, version. Pure, over a snapshot of the backends."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.names import allowed
from gateway.core.routing import Backend, Loaded, Model
from gateway.core.versions import order


class ModelCard(Struct, frozen=True):
    """A model the fleet has: canonical name, its newest copy, how many backends have it."""

    name: str
    copy: Model
    backends: int

    @property
    def modified_s(self) -> int:
        return self.copy.modified_s


def visible(backends: Iterable[Backend], globs: tuple[str, ...]) -> list[Backend]:
    """The healthy backends with those of their models that fit one of a key's `globs`; none: all of them."""
    healthy = [backend for backend in backends if backend.healthy]
    if not globs:
        return healthy
    return [
        replace(
            backend,
            models={name: model for name, model in backend.models.items() if allowed(globs, name)},
            loaded={name: loaded for name, loaded in backend.loaded.items() if allowed(globs, name)},
        )
        for backend in healthy
    ]


def models(backends: Iterable[Backend]) -> list[ModelCard]:
    """Every model of the healthy backends once, by name."""
    found: dict[str, ModelCard] = {}
    for backend in backends:
        for name, model in backend.models.items() if backend.healthy else ():
            known = found.get(name)
            newest = known.copy if known and known.modified_s >= model.modified_s else model
            found[name] = ModelCard(name, newest, 1 + (known.backends if known else 0))
    return sorted(found.values(), key=lambda card: card.name)


def loaded(backends: Iterable[Backend]) -> list[tuple[str, Model, Loaded]]:
    """Every model that a healthy backend has in memory once, as where it stays longest; that comes first, as Ollama's.

    A model that the backend no longer lists, or that nobody may use here, is not among them.
    """
    found: dict[str, tuple[Model, Loaded]] = {}
    for backend in backends:
        for name, copy in backend.loaded.items() if backend.healthy else ():
            known = found.get(name)
            if name in backend.models and (known is None or copy.expires_s > known[1].expires_s):
                found[name] = (backend.models[name], copy)
    return sorted(((name, *both) for name, both in found.items()), key=lambda one: (-one[2].expires_s, one[0]))


def oldest_version(backends: Iterable[Backend]) -> str:
    """Ollama's lowest version among the healthy backends, which is what all of them understand; "" if none says."""
    return min((one.version for one in backends if one.healthy and one.version), key=order, default="")
