"""POST /api/chat: Ollama's native chat request, read strictly, into the hub's."""

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from gateway.dialects.asked import Asked
from gateway.dialects.native.answer import ChatRenderer
from gateway.dialects.native.fields import TextFields, images
from gateway.dialects.ollama import ChatRequest, Function, Message, ToolCall
from gateway.dialects.policy import MESSAGES_MAX, ROLE_CHARS_MAX
from gateway.dialects.tools import CALLS_MAX, NAME_CHARS_MAX, TOOLS_MAX, Tool, offer
from gateway.errors import LoadBlocked

Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]


class CalledFunction(Struct):
    """`arguments` is an object, unlike OpenAI's, which is text."""

    name: str
    arguments: dict[str, Raw] | None = None
    index: int | None = None


class CalledTool(Struct):
    function: CalledFunction
    id: str | None = None


class ChatMessage(Struct, kw_only=True):
    """One turn. `images` are base64, with or without a data: head."""

    role: Annotated[str, Meta(min_length=1, max_length=ROLE_CHARS_MAX)]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: Annotated[list[CalledTool], Meta(max_length=CALLS_MAX)] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OfferedFunction(Struct):
    name: Name
    description: str | None = None
    parameters: dict[str, Raw] | None = None


class OfferedTool(Struct):
    function: OfferedFunction
    type: str | None = None


class ChatRequestBody(TextFields, kw_only=True):
    """What is read of the request."""

    messages: Annotated[list[ChatMessage], Meta(max_length=MESSAGES_MAX)] | None = None
    tools: Annotated[list[OfferedTool], Meta(max_length=TOOLS_MAX)] | None = None


_body = msgspec.json.Decoder(ChatRequestBody)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError`, `BadRequest` or `Forbidden`."""
    asked = _body.decode(body)
    if not asked.messages:
        raise LoadBlocked(param="messages")
    chat = ChatRequest(messages=[_message(message) for message in asked.messages], **asked.beyond_prompt())
    return Asked(
        model=asked.model or "",
        upstream=offer(chat, [_tool(tool.function) for tool in asked.tools or []], "auto"),
        streamed=asked.streamed,
        output_tokens_max=asked.output_tokens_max(),
        renderer=partial(ChatRenderer, asked.model or ""),
    )


def _message(message: ChatMessage) -> Message:
    return Message(
        role=message.role.lower(),
        content=message.content or "",
        thinking=message.thinking or "",
        images=images(message.images),
        tool_calls=[_tool_call(call) for call in message.tool_calls or []],
        tool_name=message.tool_name or "",
        tool_call_id=message.tool_call_id or "",
    )


def _tool_call(call: CalledTool) -> ToolCall:
    function = call.function
    arguments = Raw(msgspec.json.encode(function.arguments or {}))
    index = UNSET if function.index is None else function.index
    return ToolCall(Function(function.name, arguments, index), call.id or "")


def _tool(function: OfferedFunction) -> Tool:
    given: dict[str, Any] = {}
    if function.parameters:
        given["parameters"] = Raw(msgspec.json.encode(function.parameters))
    return Tool(function.name, function.description or "", **given)
