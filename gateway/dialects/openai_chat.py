"""POST /v1/chat/completions: OpenAI's request into the hub's. The answer's way back is in `openai_answer`."""

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.dialects.asked import Asked
from gateway.dialects.ollama import ChatRequest, Function, Message, Options, ToolCall
from gateway.dialects.openai_answer import Renderer
from gateway.errors import BadRequest, Unsupported

MESSAGES_MAX = 1_024
TOOLS_MAX = 128


class ImageUrl(Struct):
    url: str


class Part(Struct):
    """A piece of a message's content: text, or an image as a data: URI."""

    type: str
    text: str = ""
    image_url: ImageUrl | None = None


class CalledFunction(Struct):
    name: str
    arguments: str = "{}"


class CalledTool(Struct):
    function: CalledFunction
    id: str = ""


class ChatMessage(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class JsonSchema(Struct):
    schema: Raw | UnsetType = UNSET


class ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None


Count = Annotated[int, Meta(ge=1)]


class ChatCompletionRequest(Struct, kw_only=True):
    """What is read of the request. Other fields are ignored: OpenAI's clients send many that Ollama has no use for."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES_MAX)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int | None = None
    tools: Annotated[list[Raw], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    user: str | None = None


_request = msgspec.json.Decoder(ChatCompletionRequest)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError` or `BadRequest`, naming the field."""
    asked = _request.decode(body)
    if asked.n not in (None, 1):
        raise Unsupported("This gateway gives one answer a call: leave out `n`, or make several calls.", param="n")
    upstream = ChatRequest(
        messages=[_message(message) for message in asked.messages],
        tools=asked.tools or [] if asked.tool_choice != "none" else [],
        options=_options(asked),
        format=_format(asked.response_format),
        think=_think(asked.reasoning_effort),
        logprobs=bool(asked.logprobs),
        top_logprobs=asked.top_logprobs or 0,
    )
    return Asked(
        model=asked.model,
        upstream=upstream,
        streamed=bool(asked.stream),
        output_tokens_max=asked.max_completion_tokens or asked.max_tokens,
        end_user=asked.user or "",
        renderer=partial(Renderer, asked.model, bool(asked.stream_options and asked.stream_options.include_usage)),
    )


def _message(message: ChatMessage) -> Message:
    text, images = _content(message.content)
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=text,
        images=images,
        thinking=message.reasoning_content or message.reasoning or "",
        tool_calls=[_tool_call(call) for call in message.tool_calls or []],
        tool_name=(message.name or "") if message.role == "tool" else "",
        tool_call_id=message.tool_call_id or "",
    )


def _content(content: str | list[Part] | None) -> tuple[str, list[str]]:
    """All parts of a message as one text and its images in base64."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts, images = [], []
    for part in content:
        if part.type == "text":
            texts.append(part.text)
        elif part.type == "image_url" and part.image_url:
            images.append(_image(part.image_url.url))
        else:
            raise BadRequest(f"This gateway does not take content parts of type {part.type!r}.")
    return "\n".join(texts), images


def _image(url: str) -> str:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise BadRequest("Images must be data: URIs (data:image/png;base64,…); this gateway fetches no addresses.")
    return data


def _tool_call(call: CalledTool) -> ToolCall:
    arguments = call.function.arguments.strip() or "{}"
    try:
        is_object = isinstance(msgspec.json.decode(arguments), dict)
    except msgspec.DecodeError:
        is_object = False
    if not is_object:
        raise BadRequest("The `arguments` of a tool call must be a JSON object, as text.")
    return ToolCall(id=call.id, function=Function(name=call.function.name, arguments=Raw(arguments.encode())))


def _options(asked: ChatCompletionRequest) -> Options:
    """Only what was asked for: a model's own defaults stay in force."""
    given = {
        name: value
        for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")
        if (value := getattr(asked, name)) is not None
    }
    if asked.stop is not None:
        given["stop"] = [asked.stop] if isinstance(asked.stop, str) else asked.stop
    return Options(**given)


def _format(wanted: ResponseFormat | None) -> Raw | UnsetType:
    if wanted is None or wanted.type == "text":
        return UNSET
    if wanted.type == "json_object":
        return Raw(b'"json"')
    if wanted.json_schema is None or wanted.json_schema.schema is UNSET:
        raise BadRequest("`response_format` of type json_schema needs `json_schema.schema`.")
    return wanted.json_schema.schema


def _think(effort: str | None) -> bool | str | UnsetType:
    if effort is None:
        return UNSET
    return False if effort == "none" else "low" if effort == "minimal" else effort
