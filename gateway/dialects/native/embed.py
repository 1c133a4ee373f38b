"""POST /api/embed and the older POST /api/embeddings. Both are asked upstream as /api/embed, which alone has counts."""

from functools import partial
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from gateway.core.tally import Counts
from gateway.dialects import asked as spoke
from gateway.dialects import ollama
from gateway.dialects.asked import Asked
from gateway.dialects.native import errors as native_errors
from gateway.dialects.native.fields import Fields
from gateway.dialects.ollama import EmbedRequest, Reply
from gateway.dialects.policy import INPUTS_MAX
from gateway.errors import GatewayError, LoadBlocked


class EmbedRequestBody(Fields, kw_only=True):
    """What is read of the request. Texts only: Ollama takes no tokens here."""

    input: str | Annotated[list[str], Meta(max_length=INPUTS_MAX)] | None = None
    dimensions: Annotated[int, Meta(ge=0)] | None = None
    truncate: bool | None = None


class EmbeddingsRequestBody(Fields, kw_only=True):
    """What is read of the older request: one text."""

    prompt: str | None = None


_embed = msgspec.json.Decoder(EmbedRequestBody)
_embeddings = msgspec.json.Decoder(EmbeddingsRequestBody)


def parse(body: bytes) -> Asked:
    """The hub's request for /api/embed. Raises `msgspec.ValidationError` or `BadRequest`."""
    asked = _embed.decode(body)
    given = [asked.input] if isinstance(asked.input, str) else asked.input or []
    texts = [text for text in given if text]  # Ollama leaves out empty ones too, and gives no vector for them
    if not texts:
        raise LoadBlocked("An empty input would only load a model, for everybody: send a text.", param="input")
    upstream = EmbedRequest(
        input=texts,
        dimensions=asked.dimensions or UNSET,
        truncate=UNSET if asked.truncate is None else asked.truncate,
        **asked.beyond_prompt(),
    )
    return Asked(model=asked.model or "", upstream=upstream, output_tokens_max=0,
                 renderer=partial(EmbedRenderer, asked.model or "", len(upstream.input)))  # fmt: skip


def parse_older(body: bytes) -> Asked:
    """The hub's request for /api/embeddings. Raises `msgspec.ValidationError` or `BadRequest`."""
    asked = _embeddings.decode(body)
    if not asked.prompt:
        raise LoadBlocked(param="prompt")
    upstream = EmbedRequest(input=[asked.prompt], **asked.beyond_prompt())
    return Asked(model=asked.model or "", upstream=upstream, output_tokens_max=0, renderer=EmbeddingsRenderer)


class EmbedRenderer(spoke.Renderer):
    """Turns the hub's embeddings into Ollama's own, which are never streamed."""

    content_type = b"application/json"
    beat = b""

    def __init__(self, model: str, inputs: int, call_id: str, created_s: int) -> None:
        self._model = model
        self._inputs = inputs

    def feed(self, reply: Reply) -> bytes:
        return b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        return self.whole(reply, counts)

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        vectors = ollama.vectors(reply, self._inputs)
        measured = {
            "total_duration": reply.total_duration,
            "load_duration": reply.load_duration,
            "prompt_eval_count": counts.prompt_tokens,
        }
        said = {"model": self._model or reply.model, "embeddings": vectors}
        return msgspec.json.encode(said | {name: value for name, value in measured.items() if value})

    def error(self, error: GatewayError) -> bytes:
        return native_errors.body(error)


class EmbeddingsRenderer(EmbedRenderer):
    """The older answer: one vector and nothing else."""

    def __init__(self, call_id: str, created_s: int) -> None:
        super().__init__("", 1, call_id, created_s)

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        return msgspec.json.encode({"embedding": ollama.vectors(reply, 1)[0]})
