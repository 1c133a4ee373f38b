"""POST /v1/embeddings: texts in, one vector for each out, as numbers or as base64."""

import binascii
import struct
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw

from gateway.core.tally import Counts
from gateway.dialects import asked as spoke
from gateway.dialects import ollama
from gateway.dialects.asked import Asked
from gateway.dialects.extension import Extension
from gateway.dialects.ollama import EmbedRequest, Reply
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai.sampled import Count
from gateway.dialects.policy import INPUTS_MAX
from gateway.errors import BadRequest, GatewayError, StreamBroken, Unsupported


class EmbeddingsRequest(Extension, kw_only=True):
    """What is read of the request. `think` is a word of the other routes: it changes nothing here."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[str | int | list[int]]
    dimensions: Count | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


_request = msgspec.json.Decoder(EmbeddingsRequest)
_vector = msgspec.json.Decoder(list[float])


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError` or `BadRequest`.

    Unless the client wants it so, a text beyond the model's context is an error, not cut.
    """
    asked = _request.decode(body)
    texts = _texts(asked.input)
    beyond = asked.beyond_messages()
    beyond.pop("think", None)
    upstream = EmbedRequest(
        input=texts,
        options=asked.sampling(),
        dimensions=UNSET if asked.dimensions is None else asked.dimensions,
        **{"truncate": False} | beyond,
    )
    return Asked(
        model=asked.model,
        upstream=upstream,
        output_tokens_max=0,
        end_user=asked.user or "",
        renderer=partial(Renderer, asked.model, len(texts), asked.encoding_format == "base64"),
    )


def _texts(given: str | list[str | int | list[int]]) -> list[str]:
    """The inputs, each a text that is not empty."""
    inputs = given if isinstance(given, list) else [given]
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) != len(inputs):
        raise Unsupported(
            "This gateway takes text, not token ids, which every model has others of "
            "(LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False).",
            param="input",
        )
    if not texts or not all(texts):
        raise BadRequest("`input` must be a text or a list of texts, none of them empty.", param="input")
    if len(texts) > INPUTS_MAX:
        raise BadRequest(f"A request may hold {INPUTS_MAX} inputs; this one has {len(texts)}.", param="input")
    return texts


class Renderer(spoke.Renderer):
    """Turns the hub's vectors into OpenAI's list of them. They are never streamed."""

    def __init__(self, model: str, inputs: int, as_base64: bool, call_id: str, created_s: int) -> None:
        self._model = model
        self._inputs = inputs
        self._encode = _base64 if as_base64 else _unchanged

    def feed(self, reply: Reply) -> bytes:
        return b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        return self.whole(reply, counts)

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        """Raises `StreamBroken` unless there is one vector for each input."""
        data = [
            {"object": "embedding", "index": index, "embedding": self._encode(vector)}
            for index, vector in enumerate(ollama.vectors(reply, self._inputs))
        ]
        usage = {"prompt_tokens": counts.prompt_tokens, "total_tokens": counts.prompt_tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": self._model, "usage": usage})

    def error(self, error: GatewayError) -> bytes:
        return openai_errors.body(error)


def _unchanged(vector: Raw) -> Any:
    return vector


def _base64(vector: Raw) -> Any:
    """Float32s, the least significant byte first. Raises `StreamBroken` for what is no vector of them."""
    try:
        numbers = _vector.decode(vector)
        return binascii.b2a_base64(struct.pack(f"<{len(numbers)}f", *numbers), newline=False).decode()
    except (msgspec.MsgspecError, OverflowError):
        raise StreamBroken("The model server sent something that is not a vector.") from None
