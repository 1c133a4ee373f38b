"""The bytes that the stub answers with: Ollama's native API, and OpenAI's for a peer that speaks nothing better."""

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from tests.bench.recipe import Recipe, read

MARK = b"~"
"""stands once in the text of every chunk, and nowhere else in a stream"""
STAMP_DIGITS = 16
STAMP = b"~%016d%016d"
"""when the request came and when the chunk left: nanoseconds of the clock that all processes share"""
END = b"0\r\n\r\n"
NDJSON = b"application/x-ndjson"
DIMENSIONS = 768
PATHS_MAX = 64
PROMPT_TOKENS = 24
"""few, so that a core full of calls stays below the largest limit on tokens a minute that there is"""
CONTEXT_TOKENS = 131_072
CREATED = "2026-11-22T10:00:00.123456Z"
_UNSTAMPED = STAMP % (0, 0)
_encode = msgspec.json.Encoder().encode


class Format(Struct, frozen=True):
    """What one model answers at one path. A chunk is `before`, its text, `after`; `last` ends a stream."""

    recipe: Recipe
    content_type: bytes
    before: bytes
    after: bytes
    last: bytes
    whole: bytes
    burst: bytes
    """all of a stream in one piece, framed"""

    def chunk(self, received_ns: int, now_ns: int) -> bytes:
        return framed(self.before + STAMP % (received_ns, now_ns) + self.after)


@lru_cache(PATHS_MAX)
def format_of(path: bytes, model: str) -> Format:
    """Raises ValueError for a model that is no recipe."""
    recipe = read(model)
    lines = _openai(model, recipe) if path.startswith(b"/v1/") else _native(path, model, recipe)
    before, after = lines["chunk"].split(_UNSTAMPED)
    burst = framed(lines["chunk"]) * recipe.chunks + framed(lines["last"]) + END
    return Format(recipe, lines["type"], before, after, lines["last"], lines["whole"], burst)


def framed(data: bytes) -> bytes:
    """As one chunk of HTTP."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def response(body: bytes, status: bytes = b"200 OK", content_type: bytes = b"application/json; charset=utf-8") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, content_type, len(body))
    return head + body


def stream_head(content_type: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % content_type


def _native(path: bytes, model: str, recipe: Recipe) -> dict[str, bytes]:
    start = {"model": model, "created_at": CREATED}
    counts = {
        "total_duration": 181_000_000, "load_duration": 21_000_000, "prompt_eval_count": PROMPT_TOKENS,
        "prompt_eval_duration": 40_000_000, "eval_count": recipe.chunks, "eval_duration": 120_000_000,
    }  # fmt: skip
    if path == b"/api/embed":
        vector = [round(0.001 * at - 0.3, 8) for at in range(DIMENSIONS)]
        whole = _encode({"model": model, "embeddings": [vector] * recipe.vectors, **counts})
    else:
        whole = _encode(start | _said("x" * recipe.text_bytes) | {"done": True, "done_reason": "stop"} | counts)
    return {
        "type": NDJSON,
        "chunk": _encode(start | _said(_UNSTAMPED.decode()) | {"done": False}) + b"\n",
        "last": _encode(start | _said("") | {"done": True, "done_reason": "stop"} | counts) + b"\n",
        "whole": whole,
    }


def _said(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def _openai(model: str, recipe: Recipe) -> dict[str, bytes]:
    start = {"id": "chatcmpl-1", "created": 1_763_805_600, "model": model}
    tokens = PROMPT_TOKENS, recipe.chunks, PROMPT_TOKENS + recipe.chunks
    usage = dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), tokens, strict=True))
    said = {"message": {"role": "assistant", "content": "x" * recipe.text_bytes}, "index": 0, "finish_reason": "stop"}

    def event(delta: dict[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: %b\n\n" % _encode(start | {"object": "chat.completion.chunk", "choices": [choice]})

    return {
        "type": b"text/event-stream",
        "chunk": event({"role": "assistant", "content": _UNSTAMPED.decode()}, None),
        "last": event({}, "stop") + b"data: [DONE]\n\n",
        "whole": _encode(start | {"object": "chat.completion", "choices": [said], "usage": usage}),
    }


def tags(models: list[str]) -> bytes:
    return _encode({"models": [_entry(model) | {"modified_at": CREATED} for model in models]})


def loaded(models: list[str]) -> bytes:
    """All of them, for ever."""
    there = {"size_vram": 2_019_393_189, "expires_at": "2318-01-01T00:00:00Z", "context_length": CONTEXT_TOKENS}
    return _encode({"models": [_entry(model) | there for model in models]})


def shown(model: str) -> bytes:
    info = {"general.architecture": "llama", "llama.context_length": CONTEXT_TOKENS, "llama.embedding_length": 768}
    return _encode({"model_info": info, "capabilities": _capabilities(model), "details": _DETAILS})


_DETAILS = {
    "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
}  # fmt: skip


def _entry(model: str) -> dict[str, Any]:
    digest = model.encode().hex().rjust(64, "0")
    names = {"name": f"{model}:latest", "model": f"{model}:latest", "digest": digest}
    return names | {"size": 2_019_393_189, "details": _DETAILS, "capabilities": _capabilities(model)}


def _capabilities(model: str) -> list[str]:
    return ["embedding"] if read(model).vectors else ["completion"]
