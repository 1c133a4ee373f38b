"""Answers of OpenAI's API, as this gateway gives them."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType


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


class Alternative(Struct, forbid_unknown_fields=True):
    """A token, the natural logarithm of its probability, and its UTF-8 bytes."""

    token: str
    logprob: float
    bytes: list[int]


class Token(Alternative, forbid_unknown_fields=True):
    """A token of the answer, and the likeliest ones at its place."""

    top_logprobs: list[Alternative]


class Logprobs(Struct, forbid_unknown_fields=True):
    content: list[Token]
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
    choices: Annotated[list[ChatChoice], Meta(min_length=1, max_length=1)]
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
    """The data of one event."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: Annotated[list[ChatChunkChoice], Meta(max_length=1)]
    usage: Usage | UnsetType = UNSET


class TextLogprobs(Struct, forbid_unknown_fields=True):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct, forbid_unknown_fields=True):
    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: TextLogprobs | None


class Completion(Struct, forbid_unknown_fields=True):
    """One choice for each prompt."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage


class TextChunkChoice(Struct, forbid_unknown_fields=True):
    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: TextLogprobs | None


class CompletionChunk(Struct, forbid_unknown_fields=True):
    """The data of one event."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: Annotated[list[TextChunkChoice], Meta(max_length=1)]
    usage: Usage | UnsetType = UNSET


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
