"""Answers of Anthropic's API, as this gateway gives them."""

from typing import Any, Literal

from msgspec import Struct


class ErrorDetails(Struct, forbid_unknown_fields=True):
    error_code: str


class Error(Struct, forbid_unknown_fields=True):
    type: str
    message: str
    code: str
    details: ErrorDetails


class ErrorAnswer(Struct, forbid_unknown_fields=True):
    type: Literal["error"]
    error: Error
    request_id: str


class Message(Struct):
    """A model's turn: blocks of text, thinking and tool_use, in the order they were made."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "tool_use", "stop_sequence"]
    stop_sequence: str | None
    usage: dict[str, Any]


class MessageEvent(Struct):
    """The data of one event of a streamed message."""

    type: str


class TokenCount(Struct, forbid_unknown_fields=True):
    """An estimate: Ollama cannot count a prompt without evaluating it."""

    input_tokens: int
