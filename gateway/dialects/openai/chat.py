"""POST /v1/chat/completions: OpenAI's request into the hub's. The answer's way back is in `chat_answer`."""

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.dialects import forced, tools
from gateway.dialects.asked import Asked
from gateway.dialects.extension import Effort, schema_of
from gateway.dialects.ollama import ChatRequest
from gateway.dialects.openai.chat_answer import Renderer
from gateway.dialects.openai.messages import ChatMessage, messages
from gateway.dialects.openai.sampled import Count, Sampled
from gateway.dialects.openai.tools import OfferedTool, ToolChoice, offered
from gateway.dialects.policy import MESSAGES_MAX
from gateway.dialects.tools import TOOLS_MAX
from gateway.errors import BadRequest, Unsupported


class JsonSchema(Struct):
    schema: Raw | UnsetType = UNSET


class ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Reasoning(Struct):
    effort: Effort | None = None


class ChatCompletionRequest(Sampled, kw_only=True):
    """What is read of the request. Other fields are ignored: OpenAI's clients send many that Ollama has no use for."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_completion_tokens: Count | None = None
    tools: Annotated[list[OfferedTool], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    reasoning: Reasoning | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    safety_identifier: str | None = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    moderation: Any = None
    functions: list[Any] | None = None
    function_call: Any = None


_request = msgspec.json.Decoder(ChatCompletionRequest)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError` or `BadRequest`, naming the field."""
    asked = _request.decode(body)
    _refuse(asked)
    kept, choice = offered(asked.tools or [], asked.tool_choice)
    answer = partial(Renderer, asked.model, asked.include_usage, one_call=asked.parallel_tool_calls is False)
    return Asked(
        model=asked.model,
        upstream=tools.offer(_upstream(asked), kept, choice),
        streamed=bool(asked.stream),
        output_tokens_max=asked.output_tokens_max(asked.max_completion_tokens, asked.max_tokens),
        end_user=asked.user or asked.safety_identifier or "",
        renderer=forced.forcing(answer, (tool.name for tool in kept)) if choice == "required" else answer,
    )


def _upstream(asked: ChatCompletionRequest) -> ChatRequest:
    effort = asked.reasoning_effort or (asked.reasoning.effort if asked.reasoning else None)
    return ChatRequest(
        messages=messages(asked.messages),
        options=asked.hub_options(),
        format=_format(asked.response_format),
        logprobs=bool(asked.logprobs),
        top_logprobs=asked.top_logprobs or 0,
        **asked.beyond_messages(effort),
    )


def _refuse(asked: ChatCompletionRequest) -> None:
    """Raises for fields whose meaning nothing here has, rather than give another answer than was asked for."""
    refused = {
        "n": (asked.n not in (None, 1), "This gateway gives one answer a call: leave out `n`, or make several calls."),
        "logit_bias": (asked.logit_bias, "Ollama cannot weigh single tokens: leave out `logit_bias`."),
        "modalities": (set(asked.modalities or ()) - {"text"}, "This gateway answers in text alone."),
        "audio": (asked.audio is not None, "This gateway answers in text alone: leave out `audio`."),
        "web_search_options": (asked.web_search_options is not None, "This gateway does not search the web."),
        "moderation": (asked.moderation is not None, "This gateway does not moderate: leave out `moderation`."),
        "functions": (asked.functions, "Functions are tools here: put them into `tools`."),
        "function_call": (asked.function_call is not None, "Functions are tools here: use `tools` and `tool_choice`."),
    }
    for name, (is_asked, words) in refused.items():
        if is_asked:
            raise Unsupported(words, param=name)
    if asked.top_logprobs and not asked.logprobs:
        raise BadRequest("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")


def _format(wanted: ResponseFormat | None) -> Raw | UnsetType:
    if wanted is None or wanted.type == "text":
        return UNSET
    if wanted.type == "json_object":
        return Raw(b'"json"')
    schema = wanted.json_schema.schema if wanted.json_schema else UNSET
    return schema_of(schema, "`response_format.json_schema.schema`", "response_format")
