"""POST /v1/models/pull: one model onto chosen backends at once, with progress as NDJSON lines.

For operators, and for holders of a key with the scope `pull`.
"""

from typing import Annotated

from litestar import post
from litestar.params import JSONBody
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from gateway.core import names
from gateway.errors import BadRequest, CloudBlocked, ModelNotFound, RegistryBlocked
from gateway.web.admin.asked import well_formed
from gateway.web.admin.guard import pullers_only
from gateway.web.public import Requested
from gateway.web.pulling import PullDeps, Pulling

BACKENDS_MAX = 1_000


class PullModel(Struct, kw_only=True, forbid_unknown_fields=True):
    """What to pull and where to: null means all backends."""

    model: Annotated[str, Meta(min_length=1, max_length=names.SPELLING_CHARS_MAX)]
    backends: Annotated[list[str], Meta(min_length=1, max_length=BACKENDS_MAX)] | None = None
    stream: bool = True


@post("/v1/models/pull", guards=[pullers_only], before_request=well_formed, status_code=200)
async def pull(request: Requested, data: JSONBody[PullModel]) -> ASGIApp:
    deps: PullDeps = request.app.state.pull
    check_name(data.model, deps.registries, request.state.models, allow_cloud=deps.allow_cloud)
    backends = chosen(data.backends, [backend.name for backend in deps.snapshot()])
    return Pulling(deps, names.spelled(data.model), backends, streamed=data.stream).answer


def check_name(model: str, registries: tuple[str, ...], globs: tuple[str, ...], *, allow_cloud: bool) -> None:
    """Raises why that model may not be pulled. `globs`: those of models that the key may use; none: all."""
    name = names.canonical(model)
    if name is None:
        raise BadRequest(
            "`model` is not a model's name: write it as model:tag or host/namespace/model:tag.", param="model"
        )
    if names.registry(name) not in map(str.lower, registries):
        allowed = ", ".join(registries) or "none"
        raise RegistryBlocked(
            f"Models may not be pulled from {names.registry(name)}, only from: {allowed} (setting PULL_REGISTRIES).",
            param="model",
        )
    if not names.allowed(globs, name):
        raise ModelNotFound("This API key may use no model of that name, so it cannot pull it.", param="model")
    if names.is_cloud(name) and not allow_cloud:
        raise CloudBlocked(param="model")


def chosen(wanted: list[str] | None, there: list[str]) -> list[str]:
    """The backends to pull onto, each once. Raises `BadRequest` naming those that are not there."""
    if unknown := [name for name in wanted or [] if name not in there]:
        raise BadRequest(
            f"This gateway has no backends {', '.join(map(repr, unknown))}. It has: {', '.join(there)}.",
            param="backends",
        )
    return list(dict.fromkeys(there if wanted is None else wanted))
