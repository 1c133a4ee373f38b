"""Answers of Ollama's native API, as this gateway gives them."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class ErrorAnswer(Struct, forbid_unknown_fields=True):
    error: str
    code: str


class NativeMessage(Struct, forbid_unknown_fields=True):
    role: Literal["assistant"]
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET


class _Line(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every line has. Durations are in nanoseconds and on the last line only."""

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
