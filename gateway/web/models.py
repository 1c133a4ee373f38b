"""The models of all backends as one library, as OpenAI and as Ollama list them; for holders of a key.

The names a key may use are applied in one place: `_fleet`. Operators' aliases are listed as the models they stand for.
"""

from typing import Any

import msgspec
from litestar import get, post, route
from litestar.params import FromPath
from msgspec import Struct

from gateway.core import aliases, catalogue, names
from gateway.core.catalogue import ModelCard
from gateway.core.routing import OBJECTIONS, Backend, Details
from gateway.dialects.native import show as native_show
from gateway.dialects.native.show import ShowAnswer, ShowRequestBody
from gateway.errors import ModelMissing, ModelNotFound, NoBackend
from gateway.web import body, intent
from gateway.web.public import LOOKS, Requested, deps_of

NO_TIME = "0001-01-01T00:00:00Z"
"""what Go writes where there is no time; clients would stumble over an empty one"""


class ModelEntry(Struct):
    """A model as OpenAI describes one."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelList(Struct):
    object: str
    data: list[ModelEntry]


class Tag(Struct, kw_only=True):
    """A model as Ollama lists one; of several copies, the newest."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: list[str]


class TagList(Struct):
    models: list[Tag]


class Process(Struct, kw_only=True):
    """A model in memory, as Ollama lists one; of several copies, the one that stays longest."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class ProcessList(Struct):
    models: list[Process]


class Version(Struct):
    """The lowest of the backends: clients decide by it what they may ask for."""

    version: str


_show_request = msgspec.json.Decoder(ShowRequestBody)
"""its content type is not looked at: Ollama does not either, and its clients send what they like"""


@get("/v1/models")
async def listed(request: Requested) -> ModelList:
    return ModelList("list", [_entry(card) for card in _cards(request, await _answering(request))])


@get("/v1/models/{id:path}")
async def retrieved(request: Requested, id: FromPath[str]) -> ModelEntry:
    return _entry(_card(request, await _fleet(request), str(id).removeprefix("/")))


@get("/v1/models/pull")
async def retrieved_pull(request: Requested) -> ModelEntry:
    """A model of that name, for its path is also another route's, which would answer that it takes no GET."""
    return _entry(_card(request, await _fleet(request), "pull"))


@route("/api/tags", http_method=LOOKS)
async def tags(request: Requested) -> TagList:
    return TagList([_tag(card) for card in _cards(request, await _answering(request))])


@route("/api/ps", http_method=LOOKS)
async def processes(request: Requested) -> ProcessList:
    found = catalogue.loaded(await _answering(request))
    return ProcessList(
        [
            Process(
                name=name,
                model=name,
                size=copy.size_bytes,
                digest=model.digest,
                details=model.details,
                expires_at=copy.expires_at or NO_TIME,
                size_vram=copy.vram_bytes,
                context_length=copy.context_tokens,
            )
            for name, model, copy in found
        ]
    )


@route("/api/version", http_method=LOOKS)
async def version(request: Requested) -> Version:
    oldest = catalogue.oldest_version(await _answering(request))
    if not oldest:
        raise NoBackend
    return Version(oldest)


@post("/api/show", status_code=200)
async def show(request: Requested) -> ShowAnswer:
    fleet = await _fleet(request)  # first, for a stranger is told nothing of its body
    raw = await deps_of(request).intake.read(request.receive, request.scope["headers"])
    asked = body.decoded(raw, _show_request.decode)
    card = _card(request, fleet, asked.model or asked.name or "")
    name = intent.meant(deps_of(request).fleet, card.name).model
    copy, shown = await deps_of(request).library.show(name)
    return native_show.answer(name, msgspec.structs.replace(copy, modified_at=copy.modified_at or NO_TIME), shown)


async def _fleet(request: Requested) -> list[Backend]:
    """The backends as the presented key sees them. Raises `Unauthorized`, or what keeps its limits from being read."""
    deps = deps_of(request)
    statement = await deps.inspector.inspect(*deps.door.presented(request.scope))
    return catalogue.visible(deps.snapshot(), statement.models)


async def _answering(request: Requested) -> list[Backend]:
    """`_fleet` for lists: an empty one would say that there are no models. Raises `NoBackend` too."""
    fleet = await _fleet(request)
    if not fleet:
        raise NoBackend
    return fleet


def _cards(request: Requested, fleet: list[Backend]) -> list[ModelCard]:
    """By name, what can be called there."""
    known = deps_of(request).fleet
    return aliases.listed(catalogue.models(fleet), known.aliases(), known.objection)


def _card(request: Requested, fleet: list[Backend], spelling: str) -> ModelCard:
    """The model of that name, however it is spelt. Raises why there is none."""
    if not spelling:
        raise ModelMissing
    name = names.canonical(spelling)
    card = next((card for card in _cards(request, fleet) if card.name == name), None)
    if card is None:
        known = deps_of(request).fleet
        objection = known.objection(intent.meant(known, spelling).model) if name else ""
        raise OBJECTIONS.get(objection, ModelNotFound)(param="model")
    return card


def _entry(card: ModelCard) -> ModelEntry:
    return ModelEntry(card.name, "model", card.modified_s, card.name.rpartition("/")[0] or "library")


def _tag(card: ModelCard) -> Tag:
    copy = card.copy
    return Tag(
        name=card.name,
        model=card.name,
        modified_at=copy.modified_at or NO_TIME,
        size=copy.size_bytes,
        digest=copy.digest,
        details=copy.details,
        capabilities=sorted(copy.capabilities),
    )


HANDLERS: tuple[Any, ...] = (listed, retrieved, retrieved_pull, tags, processes, version, show)
