"""POST /v1/generate, /generate and /generate/{model}: `{"prompt"}` in, `{"response"}` out."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct

from gateway.core.tally import Counts
from gateway.dialects import asked as spoke
from gateway.dialects.asked import Asked
from gateway.dialects.extension import RENDER_ONLY
from gateway.dialects.ollama import GenerateRequest, Options, Reply
from gateway.dialects.openai.chat_answer import usage
from gateway.dialects.policy import stops
from gateway.errors import CreditsExhausted, GatewayError, ModelNotFound, RenderBlocked


class GenerateBody(Struct, kw_only=True):
    """What is read of the request; other fields are ignored. Without `model`, the default model answers."""

    prompt: Annotated[str, Meta(min_length=1)]
    model: str | None = None
    system: str | None = None
    stream: bool | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    debug_render_only: bool | None = msgspec.field(default=None, name=RENDER_ONLY)


_body = msgspec.json.Decoder(GenerateBody)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError` naming the field."""
    asked = _body.decode(body)
    if asked.debug_render_only:
        raise RenderBlocked(param=RENDER_ONLY)
    given: dict[str, Any] = {
        name: value for name in ("temperature", "top_p", "seed") if (value := getattr(asked, name)) is not None
    }
    if asked.stop is not None:
        given["stop"] = stops(asked.stop) or UNSET
    system = asked.system or ""
    return Asked(
        model=asked.model or "",
        upstream=GenerateRequest(prompt=asked.prompt, system=system, options=Options(**given)),
        streamed=bool(asked.stream),
        output_tokens_max=asked.max_tokens,
        end_user=asked.user or "",
        renderer=Renderer,
    )


def render_error(error: GatewayError, request_id: str = "") -> tuple[int, bytes]:
    """HTTP status and body. Two errors keep the status and the words that users of these routes know."""
    if isinstance(error, CreditsExhausted):
        return 403, _error(error, "Insufficient credits")
    if isinstance(error, ModelNotFound):
        return 400, _error(error, "Invalid model name")
    return error.status, _error(error, error.message)


def _error(error: GatewayError, words: str) -> bytes:
    return msgspec.json.encode({"error": words, "code": error.code, "detail": error.message})


class Renderer(spoke.Renderer):
    """Turns the hub's answer into `{"response"}`: one object, or one NDJSON line for each piece."""

    content_type = b"application/x-ndjson"
    beat = b""

    def __init__(self, call_id: str, created_s: int) -> None:
        self._id = call_id

    def feed(self, reply: Reply) -> bytes:
        if not reply.text:
            return b""
        return msgspec.json.encode({"response": reply.text, "done": False}) + b"\n"

    def last(self, reply: Reply, counts: Counts) -> bytes:
        return self.whole(reply, counts) + b"\n"

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        return msgspec.json.encode(
            {
                "response": reply.text,
                "done": True,
                "done_reason": reply.done_reason or "stop",
                "model": reply.model,
                "id": self._id,
                "usage": usage(counts),
            }
        )

    def error(self, error: GatewayError) -> bytes:
        return render_error(error)[1] + b"\n"
