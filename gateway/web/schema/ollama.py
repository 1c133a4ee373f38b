"""Answers of Ollama's native API, as this gateway gives them."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class ErrorAnswer(Struct, forbid_unknown_fields=True):
    error: str
    code: str


class NativeFunction(Struct, forbid_unknown_fields=True):
    """`arguments` is an object, unlike OpenAI's, which is text."""

    name: str
    arguments: dict[str, Any]
    index: int | UnsetType = UNSET


class NativeToolCall(Struct, forbid_unknown_fields=True):
    """As the backend made it: its ids may repeat."""

    function: NativeFunction
    id: str | UnsetType = UNSET


class NativeMessage(Struct, forbid_unknown_fields=True):
    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[NativeToolCall] | UnsetType = UNSET


class _Line(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every line has. Durations are in nanoseconds and, like counts, on the last line only."""

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    logprobs: list[dict[str, Any]] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class ChatLine(_Line, forbid_unknown_fields=True, kw_only=True):
    """A line of a streamed chat, or the whole of one that is not."""

    message: NativeMessage


class GenerateLine(_Line, forbid_unknown_fields=True, kw_only=True):
    """A line of a streamed answer, or the whole of one that is not."""

    response: str
    thinking: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET


class Embeddings(Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    embeddings: list[list[float]]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET


class LegacyEmbedding(Struct, forbid_unknown_fields=True):
    embedding: list[float]
