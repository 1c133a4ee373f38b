"""What is read of a request to /v1/responses, and what of it is refused whatever it says."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.dialects.extension import Effort, Extension
from gateway.dialects.openai.responses_input import ITEMS_MAX
from gateway.dialects.openai.responses_tools import Choice
from gateway.dialects.tools import TOOLS_MAX
from gateway.errors import Unsupported

PAIRS_MAX = 16
KEY_CHARS_MAX = 64
VALUE_CHARS_MAX = 512
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"

Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
"""What an answer may be asked to show beside the usual. Most of it belongs to items that no answer here has."""

_REFUSED = {
    "previous_response_id": "This gateway keeps no conversations: send the earlier items again, in `input`.",
    "conversation": "This gateway keeps no conversations: send the earlier items again, in `input`.",
    "prompt": "This gateway keeps no prompts: put their text into `instructions` and `input`.",
    "background": "This gateway keeps no answers for later: leave out `background`, and wait or stream.",
    "context_management": "This gateway does not compact conversations: send a shorter `input`.",
    "moderation": "This gateway does not moderate: leave out `moderation`.",
}


class TextFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(Struct):
    format: TextFormat | None = None


class Reasoning(Struct):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    mode: str | None = None


MetadataKey = Annotated[str, Meta(max_length=KEY_CHARS_MAX)]
MetadataValue = Annotated[str, Meta(max_length=VALUE_CHARS_MAX)]


class ResponsesRequest(Extension, kw_only=True):
    """What is read of the request. `input` are items, each of which is read when its type is known."""

    model: str | None = None
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=ITEMS_MAX)] | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Includable] | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=PAIRS_MAX)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None
    context_management: Any = None
    moderation: Any = None


def refuse(asked: ResponsesRequest) -> None:
    """Raises `Unsupported` for what would need a memory, or servers that are not here."""
    for name, why in _REFUSED.items():
        if getattr(asked, name):
            raise Unsupported(why, param=name)
    if asked.reasoning and asked.reasoning.mode not in (None, "standard"):
        raise Unsupported("This gateway knows no other `mode` of reasoning than standard.", param="reasoning")
