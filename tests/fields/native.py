"""Ollama's native requests, as its own Python client knows them."""

from typing import Any

from ollama._types import ChatRequest, EmbeddingsRequest, EmbedRequest, GenerateRequest

from gateway.dialects.native import chat as native_chat
from gateway.dialects.native import embed as native_embed
from gateway.dialects.native import generate as native_generate
from tests.fields import Field, Surface

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Now.", "parameters": SCHEMA}}
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Why is the sky blue?"}]
MODEL = Field("model", "translated", "its canonical name decides; the backend's own spelling is sent", "LLAMA3.2:3b")
OPTIONS = Field(
    "options",
    "translated",
    "sampling is passed, num_ctx and num_predict are bounded; options of loading (num_gpu, num_batch …) are left out, "
    "as they reload the model for everybody",
    {"temperature": 0.1, "num_gpu": 1},
)
KEEP_ALIVE = Field("keep_alive", "translated", "in seconds, from 60 to KEEP_ALIVE_SECONDS_MAX", "10m")
TRUNCATE = Field("truncate", "passed", "false: too long a prompt is an error", False)
TEXT = [
    MODEL,
    Field("stream", "translated", "true by default; the answer is one object or NDJSON lines", False),
    OPTIONS,
    Field("format", "passed", '"json" or a JSON schema; others are a clear 400', SCHEMA),
    KEEP_ALIVE,
    Field("think", "passed", "a demand: a model that cannot think refuses it", "high"),
    TRUNCATE,
    Field("logprobs", "passed", "in Ollama's form", True),
    Field("top_logprobs", "passed", "0 to 20", 3),
    Field("shift", "ignored", "another value reloads the model for everybody", False),
    Field("template", "refused", "each model keeps its own", "{{ .Prompt }}", "unsupported"),
    Field("_debug_render_only", "refused", "it shows a model's own system text", True, "render_blocked"),
]

CHAT = Surface(
    route="/api/chat",
    parse=native_chat.parse,
    body={"model": "llama3.2:3b", "messages": MESSAGES},
    known=frozenset(ChatRequest.model_fields),
    fields=[
        Field("messages", "passed", "roles in lower case; none would load the model and is refused", MESSAGES),
        Field("tools", "passed", "name, description and parameters of each function", [TOOL]),
        *TEXT,
    ],
)
GENERATE = Surface(
    route="/api/generate",
    parse=native_generate.parse,
    body={"model": "llama3.2:3b", "prompt": "Why is the sky blue?"},
    known=frozenset(GenerateRequest.model_fields),
    fields=[
        Field("prompt", "passed", "an empty one would load the model and is refused", "Hello"),
        Field("suffix", "passed", "for models that insert", "return x"),
        Field("system", "passed", "instead of the model's own", "Be brief."),
        Field("context", "passed", "that of an earlier answer; each token counts as one", [1, 2, 3]),
        Field("raw", "passed", "without `system` and `context`, which it would leave out", True),
        Field("images", "passed", "base64; the head of a data: URI is taken off", ["aGk="]),
        *TEXT,
        Field("width", "refused", "no images are made", 64, "unsupported"),
        Field("height", "refused", "no images are made", 64, "unsupported"),
        Field("steps", "refused", "no images are made", 4, "unsupported"),
    ],
)
EMBED = Surface(
    route="/api/embed",
    parse=native_embed.parse,
    body={"model": "nomic-embed-text", "input": ["the sky"]},
    known=frozenset(EmbedRequest.model_fields),
    fields=[
        MODEL,
        Field("input", "passed", "a text or up to 2048; an empty one would load the model and is refused", ["the sea"]),
        TRUNCATE,
        OPTIONS,
        KEEP_ALIVE,
        Field("dimensions", "passed", "shorter vectors, where the model can", 64),
    ],
)
EMBEDDINGS = Surface(
    route="/api/embeddings",
    parse=native_embed.parse_older,
    body={"model": "nomic-embed-text", "prompt": "the sky"},
    known=frozenset(EmbeddingsRequest.model_fields),
    fields=[
        MODEL,
        Field("prompt", "translated", "asked as /api/embed, which counts it; the vector has length 1", "the sea"),
        OPTIONS,
        KEEP_ALIVE,
    ],
)
SURFACES = (CHAT, GENERATE, EMBED, EMBEDDINGS)
