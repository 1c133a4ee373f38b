"""The routes of inference, and the dialect that each of them speaks: data."""

from gateway.dialects import plain
from gateway.dialects.anthropic import errors as anthropic_errors
from gateway.dialects.anthropic import messages as anthropic_messages
from gateway.dialects.asked import Dialect
from gateway.dialects.native import chat as native_chat
from gateway.dialects.native import embed as native_embed
from gateway.dialects.native import errors as native_errors
from gateway.dialects.native import generate as native_generate
from gateway.dialects.openai import chat as openai_chat
from gateway.dialects.openai import completions as openai_completions
from gateway.dialects.openai import embeddings as openai_embeddings
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai import responses as openai_responses

OPENAI_CHAT = Dialect("openai", openai_chat.parse, openai_errors.render)
OPENAI_COMPLETIONS = Dialect("openai", openai_completions.parse, openai_errors.render)
OPENAI_EMBEDDINGS = Dialect("openai", openai_embeddings.parse, openai_errors.render)
OPENAI_RESPONSES = Dialect("openai", openai_responses.parse, openai_errors.render)
ANTHROPIC_IDS = (b"x-request-id", b"request-id")
ANTHROPIC = Dialect("anthropic", anthropic_messages.parse, anthropic_errors.render, ANTHROPIC_IDS)
ANTHROPIC_COUNT = Dialect("anthropic", anthropic_messages.parse_count, anthropic_errors.render, ANTHROPIC_IDS)
NATIVE_CHAT = Dialect("ollama", native_chat.parse, native_errors.render)
NATIVE_GENERATE = Dialect("ollama", native_generate.parse, native_errors.render)
NATIVE_EMBED = Dialect("ollama", native_embed.parse, native_errors.render)
NATIVE_EMBEDDINGS = Dialect("ollama", native_embed.parse_older, native_errors.render)
PLAIN = Dialect("plain", plain.parse, plain.render_error, has_default_model=True)

CALLS: dict[str, Dialect] = {
    "/v1/chat/completions": OPENAI_CHAT,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/embeddings": OPENAI_EMBEDDINGS,
    "/v1/responses": OPENAI_RESPONSES,
    "/v1/messages": ANTHROPIC,
    "/api/chat": NATIVE_CHAT,
    "/api/generate": NATIVE_GENERATE,
    "/api/embed": NATIVE_EMBED,
    "/api/embeddings": NATIVE_EMBEDDINGS,
    "/v1/generate": PLAIN,
    "/generate": PLAIN,
}
"""by path"""
