"""What the clients of a chaos run ask, and how each API's answer is read."""

import random
from typing import Any

import msgspec
from msgspec import Struct

MODEL, EMBEDDER = "llama3.2:3b", "nomic-embed-text"
SHORT_TOKENS, LONG_TOKENS = (2, 20), (70, 250)
LONG_SHARE = 0.35
LEAVING_SHARE = 0.12
LEAVE_S_MAX = 1.2
PROMPT_WORDS_MAX = 40
MESSAGE_TOKENS_MAX = 64
"""what an estimate may add for a message, beyond the bytes of its text"""


class Request(Struct, frozen=True, kw_only=True):
    """One request to come. `leave_s`: its client goes after so long, if it has not got everything."""

    path: str
    body: dict[str, Any]
    streamed: bool
    end_user: str
    prompt_tokens_max: int
    leave_s: float | None


class Said(Struct, kw_only=True):
    """What an answer has said so far."""

    done: bool = False
    failed: bool = False
    code: str = ""
    tokens: int = 0
    told: tuple[int, int] | None = None


def draw(chance: random.Random, tag: str) -> Request:
    """A request of any kind."""
    text = tag + " why" * chance.randrange(1, PROMPT_WORDS_MAX)
    most = chance.randint(*(LONG_TOKENS if chance.random() < LONG_SHARE else SHORT_TOKENS))
    path, body = chance.choice(_KINDS)(text, tag, most)
    return Request(
        path=path,
        body=body,
        streamed=bool(body.get("stream")),
        end_user=body.get("user", ""),
        prompt_tokens_max=len(text) + 2 * MESSAGE_TOKENS_MAX,
        leave_s=chance.uniform(0, LEAVE_S_MAX) if chance.random() < LEAVING_SHARE else None,
    )


def read_line(line: bytes, said: Said) -> None:
    """One line of a stream of either API into `said`."""
    if line.startswith(b"data: "):
        line = line.removeprefix(b"data: ")
        if line == b"[DONE]":
            said.done = True
            return
    if line.startswith(b"{"):
        read_object(msgspec.json.decode(line), said)


def read_object(value: dict[str, Any], said: Said) -> None:
    """A whole answer, or a part of one."""
    if error := value.get("error"):
        said.failed, said.code = True, value.get("code") or error["code"]
    elif "choices" in value or "data" in value:
        said.tokens += any((choice.get("delta") or {}).get("content") for choice in value.get("choices", ()))
        if usage := value.get("usage"):
            said.told = usage["prompt_tokens"], usage.get("completion_tokens", 0)
    else:
        said.tokens += bool(value.get("response") or (value.get("message") or {}).get("content"))
        if value.get("done"):
            said.done, said.told = True, (value["prompt_eval_count"], value["eval_count"])


def _chat(text: str, tag: str, most: int) -> tuple[str, dict[str, Any]]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": most, "user": tag}
    return "/v1/chat/completions", body


def _chat_stream(text: str, tag: str, most: int) -> tuple[str, dict[str, Any]]:
    path, body = _chat(text, tag, most)
    return path, body | {"stream": True}


def _chat_stream_with_usage(text: str, tag: str, most: int) -> tuple[str, dict[str, Any]]:
    path, body = _chat_stream(text, tag, most)
    return path, body | {"stream_options": {"include_usage": True}}


def _embeddings(text: str, tag: str, _: int) -> tuple[str, dict[str, Any]]:
    return "/v1/embeddings", {"model": EMBEDDER, "input": text, "user": tag}


def _native_chat(text: str, _: str, most: int) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": text}]
    return "/api/chat", {"model": MODEL, "messages": messages, "stream": True, "options": {"num_predict": most}}


def _native_generate(text: str, _: str, most: int) -> tuple[str, dict[str, Any]]:
    return "/api/generate", {"model": MODEL, "prompt": text, "stream": False, "options": {"num_predict": most}}


_KINDS = (
    _chat, _chat_stream, _chat_stream, _chat_stream_with_usage, _embeddings, _native_chat, _native_chat,
    _native_generate,
)  # fmt: skip
