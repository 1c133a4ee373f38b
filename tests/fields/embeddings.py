"""The fields of POST /v1/embeddings."""

from openai.types.embedding_create_params import EmbeddingCreateParams

from gateway.dialects.openai.embeddings import parse
from tests.fields import Field, Surface

SURFACE = Surface(
    route="/v1/embeddings",
    parse=parse,
    body={"model": "nomic-embed-text", "input": "hi"},
    known=frozenset(EmbeddingCreateParams.__annotations__),
    fields=[
        Field("model", "translated", "the backend gets its own spelling of the name", "llama3.2:3b"),
        Field("input", "passed", "a text, or up to 2048 of them, none empty; token ids are refused", ["one", "two"]),
        Field("dimensions", "passed", "for models whose vectors can be shortened", 64),
        Field("encoding_format", "translated", "float, or base64 of little-endian float32", "base64"),
        Field("user", "translated", "`end_user` of the usage row", "somebody"),
        Field(
            "options",
            "translated",
            "extension: Ollama's own, without those that reload a model; `num_ctx` within CONTEXT_TOKENS_MAX",
            {"num_ctx": 512},
        ),
        Field("keep_alive", "passed", "extension: Ollama's own, within KEEP_ALIVE_SECONDS_MAX", 300.0),
        Field(
            "truncate", "passed", "extension: Ollama's own, but false unless given: too long a text is an error", True
        ),
        Field("think", "ignored", "extension of the other routes: vectors are not thought about", True),
        Field("_debug_render_only", "refused", "it shows a model's own system text", True, "render_blocked"),
    ],
)
