"""What a backend says of itself at /api/tags, /api/ps and /api/version, as records of the core. Pure.

Every reader raises `msgspec.DecodeError` or `UnicodeDecodeError` for what is no such answer. One odd entry of a list
is not: what can be read of it counts, so that no model takes its node away.
"""

from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from gateway.core import names
from gateway.core.routing import Details, Loaded, Model
from gateway.dialects.native import paths

VERSION_CHARS_MAX = 64
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""what JSON can hold on its way out again, too"""
S = TypeVar("S", bound=Struct)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Inventory(Struct, frozen=True):
    """A backend's models by canonical name, and Ollama's version there.

    `remote` are the names that it has only as stubs of models elsewhere, which are left out.
    """

    models: dict[str, Model]
    version: str = ""
    remote: frozenset[str] = frozenset()


class _Details(Struct):
    """As a node writes them: any may be null."""

    parent_model: str | None = None
    format: str | None = None
    family: str | None = None
    families: list[str] | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None
    context_length: Count | None = None
    embedding_length: Count | None = None


class _Entry(Struct):
    """A model in a list of models, on disk or in memory. Any field may be null."""

    name: str | None = None
    digest: str | None = None
    size: Count | None = None
    details: Raw = Raw(b"null")
    modified_at: str | None = None
    capabilities: list[str] | None = None
    remote_host: str | None = None
    expires_at: str | None = None
    size_vram: Count | None = None
    context_length: Count | None = None


class _List(Struct):
    models: list[Raw] | None = None


class _Version(Struct):
    version: str = field(default="")


_list = msgspec.json.Decoder(_List)
_version = msgspec.json.Decoder(_Version)


def read_models(body: bytes, *, cloud: bool) -> Inventory:
    """The models; those whose prompts would leave the site only if `cloud` ones are wanted."""
    entries = _named(body)
    models = {name: _model(entry) for name, entry in entries if cloud or not _leaves(name, entry)}
    return Inventory(models, remote=frozenset(name for name, _ in entries if name not in models))


def read_loaded(body: bytes) -> dict[str, Loaded]:
    """Models in memory by canonical name."""
    return {
        name: Loaded(
            expires_at=entry.expires_at or "",
            expires_s=_unix_s(entry.expires_at or ""),
            size_bytes=entry.size or 0,
            vram_bytes=entry.size_vram or 0,
            context_tokens=entry.context_length or 0,
        )
        for name, entry in _named(body)
    }


def read_version(body: bytes) -> str:
    return _version.decode(body).version[:VERSION_CHARS_MAX]


def details(raw: Raw) -> Details:
    """`parent_model` is kept where it is a model's name: for models made from a file it is that file's path."""
    said = _read(raw, _Details)
    given = {name: value for name, value in msgspec.structs.asdict(said).items() if value is not None}
    parent = given.get("parent_model", "")
    if names.canonical(parent) is None or paths.has_path(parent):
        given["parent_model"] = ""
    return Details(**given | {"families": tuple(given.get("families", ()))})


def _model(entry: _Entry) -> Model:
    return Model(
        spelling=entry.name or "",
        modified_s=int(_unix_s(entry.modified_at or "")),
        capabilities=frozenset(entry.capabilities or ()),
        modified_at=entry.modified_at or "",
        size_bytes=entry.size or 0,
        digest=entry.digest or "",
        details=details(entry.details),
    )


def _leaves(name: str, entry: _Entry) -> bool:
    """Whether prompts to it would leave the site."""
    return bool(entry.remote_host) or names.is_cloud(name)


def _named(body: bytes) -> list[tuple[str, _Entry]]:
    entries = [_read(raw, _Entry) for raw in _list.decode(body).models or []]
    return [(name, entry) for entry in entries if (name := names.canonical(entry.name or ""))]


def _read(raw: Raw, kind: type[S]) -> S:
    """A struct whose fields have defaults; where it cannot be read whole, those of its fields that can."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except _UNREADABLE:
        return kind(**_readable(raw, kind))


def _readable(raw: Raw, kind: type[Struct]) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(raw, type=dict[str, Raw])
    except _UNREADABLE:
        return {}
    found = {}
    for one in msgspec.structs.fields(kind):
        try:
            found[one.name] = msgspec.json.decode(said[one.name], type=one.type)
        except (KeyError, *_UNREADABLE):
            continue
    return found


def _unix_s(text: str) -> float:
    try:
        return msgspec.convert(text, datetime).timestamp()
    except (msgspec.ValidationError, ValueError, OverflowError):
        return 0.0
