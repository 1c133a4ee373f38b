"""POST /api/generate: Ollama's native request for the continuation of a prompt, into the hub's."""

from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.dialects.asked import Asked
from gateway.dialects.native.answer import GenerateRenderer
from gateway.dialects.native.fields import TextFields, images
from gateway.dialects.ollama import GenerateRequest
from gateway.errors import BadRequest, LoadBlocked, Unsupported

CONTEXT_TOKENS_MAX = 1 << 18
TOKEN_MAX = 2**31 - 1

Token = Annotated[int, Meta(ge=0, le=TOKEN_MAX)]


class GenerateRequestBody(TextFields, kw_only=True):
    """What is read of the request. `context` is that of an earlier answer."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    context: Annotated[list[Token], Meta(max_length=CONTEXT_TOKENS_MAX)] | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None


_body = msgspec.json.Decoder(GenerateRequestBody)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError`, `BadRequest` or `Forbidden`."""
    asked = _body.decode(body)
    if not asked.prompt:
        raise LoadBlocked(param="prompt")
    _check(asked)
    upstream = GenerateRequest(
        prompt=asked.prompt,
        suffix=asked.suffix or "",
        system=asked.system or "",
        images=images(asked.images),
        raw=bool(asked.raw),
        context=asked.context or [],
        **asked.beyond_prompt(),
    )
    return Asked(
        model=asked.model or "",
        upstream=upstream,
        streamed=asked.streamed,
        output_tokens_max=asked.output_tokens_max(),
        renderer=partial(GenerateRenderer, asked.model or ""),
    )


def _check(asked: GenerateRequestBody) -> None:
    """Raises what Ollama would refuse only after the call was admitted."""
    if asked.raw and (asked.system or asked.context):
        raise BadRequest("A `raw` prompt is the whole prompt: leave out `system` and `context`.", param="raw")
    for name in ("width", "height", "steps"):
        if getattr(asked, name):
            raise Unsupported(f"This gateway makes no images: leave out `{name}`.", param=name)
