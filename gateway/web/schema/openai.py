"""Answers of OpenAI's API, as this gateway gives them."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class Error(Struct, forbid_unknown_fields=True):
    """What went wrong. `code` is stable; `param` names the field that is to blame, where it is one."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(Struct, forbid_unknown_fields=True):
    error: Error


class TokenDetails(Struct, forbid_unknown_fields=True):
    reasoning_tokens: int


class Usage(Struct, forbid_unknown_fields=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: TokenDetails | UnsetType = UNSET


class CalledFunction(Struct, forbid_unknown_fields=True):
    """`arguments` is a JSON object, as text."""

    name: str
    arguments: str


class ToolCall(Struct, forbid_unknown_fields=True):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ToolCallDelta(ToolCall, forbid_unknown_fields=True):
    index: int


class Logprobs(Struct, forbid_unknown_fields=True):
    content: list[dict[str, Any]]
    refusal: None


class ChatMessage(Struct, forbid_unknown_fields=True):
    """`reasoning` repeats `reasoning_content`: clients know one or the other."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(Struct, forbid_unknown_fields=True):
    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: Logprobs | None


class ChatCompletion(Struct, forbid_unknown_fields=True):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(Struct, forbid_unknown_fields=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChatChunkChoice(Struct, forbid_unknown_fields=True):
    index: int
    delta: ChatDelta
    finish_reason: Literal["stop", "length", "tool_calls"] | None
    logprobs: Logprobs | None


class ChatCompletionChunk(Struct, forbid_unknown_fields=True):
    """The data of one event. The last one is `[DONE]`; an error object in its place means failure."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class TextLogprobs(Struct, forbid_unknown_fields=True):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct, forbid_unknown_fields=True):
    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: TextLogprobs | None


class Completion(Struct, forbid_unknown_fields=True):
    """Whole, or the data of one event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET


class EmbeddingUsage(Struct, forbid_unknown_fields=True):
    prompt_tokens: int
    total_tokens: int


class Embedding(Struct, forbid_unknown_fields=True):
    """`embedding`: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Struct, forbid_unknown_fields=True):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ResponseUsage(Struct, forbid_unknown_fields=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens_details: dict[str, int]


class ResponseObject(Struct):
    """OpenAI's response object; nothing of it is stored."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    model: str
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    usage: ResponseUsage | None


class ResponseEvent(Struct):
    """The data of one event of a streamed response."""

    type: str
    sequence_number: int
