"""Answers of /v1/responses: the response object, its items, and the events that make it."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.dialects.openai.responses_tools import FunctionTool, ToolChoice
from gateway.web.schema.openai import Token

Progress = Literal["in_progress", "completed", "incomplete"]


class OutputText(Struct, forbid_unknown_fields=True):
    """Text for the user. Ollama's models cite nothing, so there are never annotations."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)]
    logprobs: list[Token]


class SummaryText(Struct, forbid_unknown_fields=True):
    """A thought, whole: it is its own summary."""

    type: Literal["summary_text"]
    text: str


class MessageItem(Struct, forbid_unknown_fields=True, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"]
    status: Progress
    content: Annotated[list[OutputText], Meta(max_length=1)]


class ReasoningItem(Struct, forbid_unknown_fields=True, tag_field="type", tag="reasoning"):
    id: str
    status: Progress
    summary: Annotated[list[SummaryText], Meta(max_length=1)]
    encrypted_content: UnsetType | None = UNSET


class FunctionCallItem(Struct, forbid_unknown_fields=True, tag_field="type", tag="function_call"):
    """A call of a function of the client's. `arguments` is a JSON object, as text; "" until it is known."""

    id: str
    status: Progress
    call_id: str
    name: str
    arguments: str


Item = MessageItem | ReasoningItem | FunctionCallItem


class CachedTokens(Struct, forbid_unknown_fields=True):
    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(Struct, forbid_unknown_fields=True):
    reasoning_tokens: int


class ResponseUsage(Struct, forbid_unknown_fields=True):
    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseError(Struct, forbid_unknown_fields=True):
    """Why it failed. `code` is one that OpenAI's clients know; this gateway's own is in `type`."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str
    type: str
    param: str | None


class IncompleteDetails(Struct, forbid_unknown_fields=True):
    reason: Literal["max_output_tokens"]


class ResponseFormat(Struct, forbid_unknown_fields=True):
    """The last four are those of a json_schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class ResponseText(Struct, forbid_unknown_fields=True):
    format: ResponseFormat


class ResponseReasoning(Struct, forbid_unknown_fields=True):
    effort: str | None
    summary: str | None


class ResponseObject(Struct, forbid_unknown_fields=True):
    """OpenAI's response object; nothing of it is stored. What it repeats of the request is null where it is very long,
    and where the model's own default is in force."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[Item]
    usage: ResponseUsage | None
    instructions: str | None
    tools: list[FunctionTool]
    text: ResponseText | None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    top_logprobs: int
    max_output_tokens: int | None
    reasoning: ResponseReasoning
    truncation: Literal["auto", "disabled"]
    metadata: dict[str, str]
    user: str | None
    safety_identifier: str | None
    previous_response_id: None
    background: bool
    store: bool


class _Event(Struct, forbid_unknown_fields=True, kw_only=True):
    """`sequence_number` counts the events of a stream from 0."""

    sequence_number: int


class ResponseStage(_Event, forbid_unknown_fields=True, kw_only=True):
    """The first two events, and the last one: completed, incomplete or failed."""

    type: Literal[
        "response.created", "response.in_progress", "response.completed", "response.incomplete", "response.failed"
    ]
    response: ResponseObject


class ItemStage(_Event, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: Item


class _ItemEvent(_Event, forbid_unknown_fields=True, kw_only=True):
    item_id: str
    output_index: int


class _TextEvent(_ItemEvent, forbid_unknown_fields=True, kw_only=True):
    content_index: Literal[0]


class _SummaryEvent(_ItemEvent, forbid_unknown_fields=True, kw_only=True):
    summary_index: Literal[0]


class PartStage(_TextEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.content_part.added", "response.content_part.done"]
    part: OutputText


class OutputTextDelta(_TextEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: list[Token]


class OutputTextDone(_TextEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.output_text.done"]
    text: str
    logprobs: list[Token]


class SummaryPartStage(_SummaryEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.reasoning_summary_part.added", "response.reasoning_summary_part.done"]
    part: SummaryText


class SummaryTextDelta(_SummaryEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.reasoning_summary_text.delta"]
    delta: str


class SummaryTextDone(_SummaryEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.reasoning_summary_text.done"]
    text: str


class ArgumentsDelta(_ItemEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.function_call_arguments.delta"]
    delta: str


class ArgumentsDone(_ItemEvent, forbid_unknown_fields=True, kw_only=True):
    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


EVENTS: tuple[type[Struct], ...] = (
    ResponseStage,
    ItemStage,
    PartStage,
    OutputTextDelta,
    OutputTextDone,
    SummaryPartStage,
    SummaryTextDelta,
    SummaryTextDone,
    ArgumentsDelta,
    ArgumentsDone,
)
"""what the data of one event can be"""
