"""POST /api/show: what a model is, without what a node keeps to itself: its paths, and the system text of its maker."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.routing import Details, Model
from gateway.dialects.native import paths


class Shown(Struct, frozen=True, kw_only=True):
    """What is kept of a node's answer: the same for every copy of a digest."""

    license: str = ""
    parameters: str = ""
    template: str = ""
    model_info: dict[str, Any] = {}
    capabilities: tuple[str, ...] = ()

    def length(self, of: str) -> int:
        """The "context" or "embedding" length in its metadata; 0 where it does not say."""
        value = self.model_info.get(f"{self.model_info.get('general.architecture')}.{of}_length")
        return value if isinstance(value, int) and not isinstance(value, bool) else 0


class ShowRequestBody(Struct, kw_only=True):
    """What is read of the request. `name` is the older word. `verbose` is ignored: it asks for a whole vocabulary."""

    model: str | None = None
    name: str | None = None


class ShowAnswer(Struct, kw_only=True, omit_defaults=True):
    """Ollama's answer. `modelfile` names the model, where a node's own names its files."""

    license: str = ""
    modelfile: str
    parameters: str = ""
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class _Said(Struct):
    """What is read of a node's answer: `system`, `modelfile`, `tensors` and the rest are not."""

    license: str | None = None
    parameters: str | None = None
    template: str | None = None
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None


_said = msgspec.json.Decoder(_Said)


def read(body: bytes) -> Shown:
    """Raises `msgspec.DecodeError`, `UnicodeDecodeError` or `RecursionError`."""
    said = _said.decode(body)
    return Shown(
        license=said.license or "",
        parameters=paths.without_lines(said.parameters or ""),
        template=paths.without_bare_lines(said.template or ""),
        model_info=paths.without(said.model_info or {}),
        capabilities=tuple(said.capabilities or ()),
    )


def answer(name: str, model: Model, shown: Shown) -> ShowAnswer:
    """What a client is told of the model with that canonical name."""
    return ShowAnswer(
        license=shown.license,
        modelfile=f"FROM {name}\n",
        parameters=shown.parameters,
        template=shown.template,
        details=model.details,
        model_info=shown.model_info,
        capabilities=list(shown.capabilities) or sorted(model.capabilities),
        modified_at=model.modified_at,
    )
