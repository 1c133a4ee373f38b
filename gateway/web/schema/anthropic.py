"""Answers of Anthropic's API, as this gateway gives them."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

StopReason = Literal["end_turn", "max_tokens", "tool_use", "stop_sequence"]


class ErrorDetails(Struct, forbid_unknown_fields=True):
    error_code: str


class Error(Struct, forbid_unknown_fields=True):
    type: str
    message: str
    code: str
    details: ErrorDetails


class ErrorAnswer(Struct, forbid_unknown_fields=True):
    """An error's body, and the data of the event that ends a stream which failed."""

    type: Literal["error"]
    error: Error
    request_id: str


class TextBlock(Struct, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Ollama's models cite nothing."""

    text: str
    citations: None


class ThinkingBlock(Struct, forbid_unknown_fields=True, tag_field="type", tag="thinking"):
    """`signature` is there for clients that want one; nobody checks it."""

    thinking: str
    signature: str


class ToolUseBlock(Struct, forbid_unknown_fields=True, tag_field="type", tag="tool_use"):
    """A call of a tool of the client's. In a stream, `input` is empty and comes in pieces."""

    id: str
    name: str
    input: dict[str, Any]


ContentBlock = TextBlock | ThinkingBlock | ToolUseBlock


class ThinkingTokens(Struct, forbid_unknown_fields=True):
    thinking_tokens: int


class MessageUsage(Struct, forbid_unknown_fields=True):
    """`output_tokens_details` is left out where nobody knows how much of the answer was thought."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens_details: ThinkingTokens | UnsetType = UNSET


class _Turn(Struct, forbid_unknown_fields=True, kw_only=True):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    usage: MessageUsage


class Message(_Turn, forbid_unknown_fields=True, kw_only=True):
    """A model's turn: blocks of text, thinking and tool_use, in the order they were made."""

    content: list[ContentBlock]
    stop_reason: StopReason
    stop_sequence: str | None


class BegunMessage(_Turn, forbid_unknown_fields=True, kw_only=True):
    """A turn of which nothing was made yet. Its `input_tokens` are an estimate."""

    content: Annotated[list[Any], Meta(max_length=0)]
    stop_reason: None
    stop_sequence: None


class TextDelta(Struct, forbid_unknown_fields=True, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, forbid_unknown_fields=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, forbid_unknown_fields=True, tag_field="type", tag="signature_delta"):
    signature: str


class InputJsonDelta(Struct, forbid_unknown_fields=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class StopDelta(Struct, forbid_unknown_fields=True):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageStart(Struct, forbid_unknown_fields=True):
    type: Literal["message_start"]
    message: BegunMessage


class ContentBlockStart(Struct, forbid_unknown_fields=True):
    type: Literal["content_block_start"]
    index: int
    content_block: ContentBlock


class ContentBlockDelta(Struct, forbid_unknown_fields=True):
    type: Literal["content_block_delta"]
    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class ContentBlockStop(Struct, forbid_unknown_fields=True):
    type: Literal["content_block_stop"]
    index: int


class MessageDelta(Struct, forbid_unknown_fields=True):
    """How the turn ended, and its bill."""

    type: Literal["message_delta"]
    delta: StopDelta
    usage: MessageUsage


class MessageStop(Struct, forbid_unknown_fields=True):
    type: Literal["message_stop"]


class Ping(Struct, forbid_unknown_fields=True):
    """A sign of life: it may come before any other event."""

    type: Literal["ping"]


EVENTS: tuple[type[Struct], ...] = (
    MessageStart,
    ContentBlockStart,
    ContentBlockDelta,
    ContentBlockStop,
    MessageDelta,
    MessageStop,
    Ping,
    ErrorAnswer,
)
"""what the data of one event can be"""


class TokenCount(Struct, forbid_unknown_fields=True):
    """An estimate: Ollama cannot count a prompt without evaluating it."""

    input_tokens: int
