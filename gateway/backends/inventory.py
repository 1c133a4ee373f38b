"""What a backend says of itself at /api/tags, /api/ps and /api/version, as records of the core. Pure.

Every reader raises `msgspec.DecodeError` or `UnicodeDecodeError` for what is no such answer.
"""

from datetime import datetime

import msgspec
from msgspec import Struct, field

from gateway.core import names
from gateway.core.routing import Details, Loaded, Model

VERSION_CHARS_MAX = 64


class Inventory(Struct, frozen=True):
    """A backend's models by canonical name, and Ollama's version there."""

    models: dict[str, Model]
    version: str = ""


class _Details(Struct):
    """As a node writes them: any may be null."""

    parent_model: str | None = None
    format: str | None = None
    family: str | None = None
    families: list[str] | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None
    context_length: int | None = None
    embedding_length: int | None = None


class _Entry(Struct):
    """A model in a list of models, on disk or in memory."""

    name: str = ""
    digest: str = ""
    size: int = 0
    details: _Details | None = None
    modified_at: str = ""
    capabilities: list[str] | None = None
    remote_host: str = ""
    expires_at: str = ""
    size_vram: int = 0
    context_length: int = 0


class _List(Struct):
    models: list[_Entry] | None = None


class _Version(Struct):
    version: str = field(default="")


_list = msgspec.json.Decoder(_List)
_version = msgspec.json.Decoder(_Version)


def read_models(body: bytes, *, cloud: bool) -> dict[str, Model]:
    """Models by canonical name; those whose prompts would leave the site only if `cloud` ones are wanted."""
    return {
        name: Model(
            spelling=entry.name,
            modified_s=int(_unix_s(entry.modified_at)),
            capabilities=frozenset(entry.capabilities or ()),
            modified_at=entry.modified_at,
            size_bytes=max(0, entry.size),
            digest=entry.digest,
            details=details(entry.details),
        )
        for name, entry in _named(body)
        if cloud or not (entry.remote_host or names.is_cloud(name))
    }


def read_loaded(body: bytes) -> dict[str, Loaded]:
    """Models in memory by canonical name."""
    return {
        name: Loaded(
            expires_at=entry.expires_at,
            expires_s=_unix_s(entry.expires_at),
            size_bytes=max(0, entry.size),
            vram_bytes=max(0, entry.size_vram),
            context_tokens=max(0, entry.context_length),
        )
        for name, entry in _named(body)
    }


def read_version(body: bytes) -> str:
    return _version.decode(body).version[:VERSION_CHARS_MAX]


def details(said: _Details | None) -> Details:
    """`parent_model` is kept where it is a model's name: for models made from a file it is that file's path."""
    if said is None:
        return Details()
    given = {name: value for name, value in msgspec.structs.asdict(said).items() if value is not None}
    if "parent_model" in given and names.canonical(given["parent_model"]) is None:
        del given["parent_model"]
    return Details(**given | {"families": tuple(given.get("families", ()))})


def _named(body: bytes) -> list[tuple[str, _Entry]]:
    entries = _list.decode(body).models or []
    return [(name, entry) for entry in entries if (name := names.canonical(entry.name))]


def _unix_s(text: str) -> float:
    try:
        return msgspec.convert(text, datetime).timestamp()
    except (msgspec.ValidationError, ValueError, OverflowError):
        return 0.0
