"""The bytes of requests, in each dialect that the benchmark speaks."""

from typing import Any

import msgspec
from msgspec import Struct

PROMPT = "Explain why the sky is blue, and do it in one sentence. "
OUTPUT_TOKENS = 256
_encode = msgspec.json.encode


class Dialect(Struct, frozen=True):
    """Where it is asked, and how it is called in tables."""

    name: str
    path: str


NATIVE = Dialect("native", "/api/chat")
OPENAI = Dialect("openai", "/v1/chat/completions")
ANTHROPIC = Dialect("anthropic", "/v1/messages")
EMBED = Dialect("embed", "/api/embed")


def body(
    dialect: Dialect, model: str, *, prompt_bytes: int, stream: bool, inputs: int = 0, output_tokens: int = 0
) -> bytes:
    """`inputs`: texts to embed, each of `prompt_bytes`.

    `output_tokens` 0: as many as the model likes, but for Anthropic's API, which has to be told.
    """
    text = (PROMPT * (prompt_bytes // len(PROMPT) + 1))[:prompt_bytes]
    if dialect == EMBED:
        return _encode({"model": model, "input": [text] * inputs})
    more: dict[str, Any] = {}
    if output_tokens and dialect == NATIVE:
        more = {"options": {"num_predict": output_tokens}}
    elif output_tokens or dialect == ANTHROPIC:
        more = {"max_tokens": output_tokens or OUTPUT_TOKENS}
    return _encode({"model": model, "messages": [{"role": "user", "content": text}], "stream": stream} | more)


def headers(key: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}


def post(path: str, content: bytes, key: str) -> bytes:
    """The whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers(key).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
