"""What requests of OpenAI's and Anthropic's APIs may say in Ollama's own words, beside their own fields.

`options`, `keep_alive`, `think` and `truncate` have the names and the meaning they have in Ollama's native API; the
clients of those APIs send them as extra fields (`extra_body` in the Python clients). `policy` bounds them.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from gateway.dialects import ollama
from gateway.dialects.options import Options
from gateway.dialects.policy import seconds, stops
from gateway.errors import BadRequest, RenderBlocked

RENDER_ONLY = "_debug_render_only"
Thinking = bool | Literal["low", "medium", "high", "max"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"]

_EFFORTS: dict[str, bool | str] = {"none": False, "minimal": "low", "xhigh": "max", "ultra": "max"}
_IMAGES = tuple(f"data:image/{kind};base64" for kind in ("png", "jpeg", "jpg", "webp", "gif"))


class Extension(Struct, kw_only=True):
    """The fields of Ollama's own that every request of another API may have."""

    options: Options | None = None
    keep_alive: float | str | None = None
    think: Thinking | None = None
    truncate: bool | None = None
    debug_render_only: bool | None = msgspec.field(default=None, name=RENDER_ONLY)

    def beyond_messages(self, effort: str | None = None) -> dict[str, Any]:
        """`keep_alive`, `truncate`, `think` for a hub request. The request's own `effort` gives way to `think`."""
        if self.debug_render_only:
            raise RenderBlocked(param=RENDER_ONLY)
        given: dict[str, Any] = {}
        if self.keep_alive is not None:
            given["keep_alive"] = seconds(self.keep_alive)
        if self.truncate is not None:
            given["truncate"] = self.truncate
        if self.think is not None:
            given["think"] = self.think
        elif effort is not None:
            given |= {"think": _EFFORTS.get(effort, effort), "think_if_able": True}
        return given

    def sampling(self, stop: str | list[str] | None = None, **own: float | None) -> ollama.Options:
        """`options` with the request's own fields over them; None leaves a model's own default in force."""
        given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        if stop is not None:
            given["stop"] = stops(stop) or UNSET
        return replace(self.options.hub() if self.options else ollama.Options(), **given)

    def output_tokens_max(self, *own: int | None) -> int | None:
        """The first of the request's own limits that is given, else `options.num_predict`, else None."""
        given = next((limit for limit in own if limit is not None), None)
        return self.options.output_tokens_max() if given is None and self.options else given


def image(url: str, param: str | None = None) -> str:
    """The base64 of a data: URI. Raises `BadRequest`: this gateway fetches no addresses."""
    head, comma, data = url.partition(",")
    if not comma or head.lower() not in _IMAGES:
        raise BadRequest(
            "Images must be data: URIs of PNG, JPEG, WebP or GIF (data:image/png;base64,…); this gateway fetches none.",
            param=param,
        )
    return data


def schema_of(value: msgspec.Raw | UnsetType, what: str, param: str | None = None) -> msgspec.Raw:
    """A JSON schema as it came. Raises `BadRequest` when it is not an object."""
    if value is UNSET or bytes(value).lstrip()[:1] != b"{":
        raise BadRequest(f"{what} must be a JSON schema, which is an object.", param=param)
    return value
