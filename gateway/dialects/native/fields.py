"""The fields that Ollama's native requests have in common, and what the hub makes of them."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.dialects import ollama
from gateway.dialects.extension import RENDER_ONLY, Thinking, image
from gateway.dialects.options import Options
from gateway.dialects.policy import seconds
from gateway.errors import BadRequest, RenderBlocked, Unsupported

LOGPROBS_MAX = 20


class Fields(Struct, kw_only=True):
    """What every native request has. Fields that are not listed are ignored, as Ollama ignores those it does not know;
    null is the same as leaving a field out."""

    model: str | None = None
    options: Options | None = None
    keep_alive: float | str | None = None

    def sampling(self) -> ollama.Options:
        return self.options.hub() if self.options else ollama.Options()

    def output_tokens_max(self) -> int | None:
        return self.options.output_tokens_max() if self.options else None

    def beyond_prompt(self) -> dict[str, Any]:
        """The fields of the hub's request that have nothing to do with the prompt. Raises `BadRequest`."""
        given: dict[str, Any] = {"options": self.sampling()}
        return given if self.keep_alive is None else given | {"keep_alive": seconds(self.keep_alive)}


class TextFields(Fields, kw_only=True):
    """What both routes that make text have. `shift` is not read: it would reload the model for everybody."""

    stream: bool | None = None
    format: Raw | UnsetType = UNSET
    think: Thinking | None = None
    truncate: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=LOGPROBS_MAX)] | None = None
    template: str | None = None
    debug_render_only: bool | None = msgspec.field(default=None, name=RENDER_ONLY)

    @property
    def streamed(self) -> bool:
        return self.stream is not False

    def beyond_prompt(self) -> dict[str, Any]:
        if self.template:
            raise Unsupported("This gateway uses each model's own template: leave out `template`.", param="template")
        if self.debug_render_only:
            raise RenderBlocked(param=RENDER_ONLY)
        return super().beyond_prompt() | {
            "format": _format(self.format),
            "think": UNSET if self.think is None else self.think,
            "truncate": UNSET if self.truncate is None else self.truncate,
            "logprobs": bool(self.logprobs),
            "top_logprobs": self.top_logprobs or 0,
        }


def images(given: list[str] | None) -> list[str]:
    """Images in base64. A data: URI is one with a head, which Ollama would stumble over. Raises `BadRequest`."""
    return [image(one, "images") if one.startswith("data:") else one for one in given or []]


def _format(wanted: Raw | UnsetType) -> Raw | UnsetType:
    """ "json" or a JSON schema; null and "" are none. Ollama itself would load the model before it refuses others."""
    text = b"" if wanted is UNSET else bytes(wanted).strip()
    if text in (b"", b"null", b'""'):
        return UNSET
    if text != b'"json"' and not text.startswith(b"{"):
        raise BadRequest('`format` must be "json" or a JSON schema, which is an object.', param="format")
    return Raw(text)
