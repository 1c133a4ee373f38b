"""What is read of the requests of Anthropic's API. Other fields are ignored: its clients send many that do not matter
here."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.dialects.anthropic.blocks import Text, Turn
from gateway.dialects.extension import Extension
from gateway.dialects.policy import MESSAGES_MAX, PARTS_MAX
from gateway.dialects.tools import TOOLS_MAX


class ToolGiven(Struct):
    """A tool that the client runs. Anthropic's own, whose `type` has a date, are not taken."""

    type: str | None = None
    name: str = ""
    description: str | None = None
    input_schema: Raw | UnsetType = UNSET


class ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Struct):
    """`budget_tokens` is ignored: Ollama bounds thinking together with the rest of the answer."""

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Struct):
    type: Literal["json_schema"]
    schema: Raw | UnsetType = UNSET


class OutputConfig(Struct):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(Struct):
    user_id: str | None = None


class CountTokensRequest(Extension, kw_only=True):
    """What makes a prompt."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MESSAGES_MAX)]
    system: str | Annotated[list[Text], Meta(max_length=PARTS_MAX)] | None = None
    tools: Annotated[list[ToolGiven], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """where `output_config.format` stood in earlier versions"""
    container: Any = None
    mcp_servers: list[Any] | None = None
    thread: Any = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """A prompt, and how to answer it."""

    max_tokens: Annotated[int, Meta(ge=1)]
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    compaction: Any = None
