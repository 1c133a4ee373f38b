"""OpenAI's messages into the hub's: the parts of one become one text with its images."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.dialects import extension, tools
from gateway.dialects.ollama import Function, Message, ToolCall
from gateway.dialects.policy import PARTS_MAX
from gateway.dialects.tools import CALLS_MAX
from gateway.errors import BadRequest, Unsupported


class ImageUrl(Struct):
    url: str


class Part(Struct):
    """A piece of a message's content: text, a refusal, or an image as a data: URI."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: ImageUrl | str | None = None


class CalledFunction(Struct):
    name: str
    arguments: str = "{}"


class CalledTool(Struct):
    id: str = ""
    type: str = "function"
    function: CalledFunction | None = None


class ChatMessage(Struct):
    """One turn. What an assistant thought comes back under either of the names that our answers have for it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[Part], Meta(max_length=PARTS_MAX)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[CalledTool], Meta(max_length=CALLS_MAX)] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    audio: Any = None
    function_call: Any = None


def messages(given: list[ChatMessage]) -> list[Message]:
    """The hub's messages. Raises `BadRequest`.

    Templates know a tool's answer by the tool's name, clients of OpenAI by the id of its call.
    """
    names = {call.id: call.function.name for one in given for call in one.tool_calls or [] if call.function}
    return [_message(one, names) for one in given]


def _message(given: ChatMessage, names: dict[str, str]) -> Message:
    if given.role == "function" or given.function_call is not None:
        raise Unsupported("Functions are tools here: send `tool_calls` and messages of role `tool`.", param="messages")
    if given.audio is not None:
        raise Unsupported("This gateway neither hears nor speaks.", param="messages")
    text, images = _content(given.content)
    message = Message(
        role="system" if given.role == "developer" else given.role,
        content=text or given.refusal or "",
        images=images,
        thinking=given.reasoning_content or given.reasoning or "",
        tool_calls=[_tool_call(call) for call in given.tool_calls or []],
        tool_call_id=given.tool_call_id or "",
    )
    if given.role == "tool":
        message.tool_name = given.name or names.get(message.tool_call_id, "")
    return message


def _content(content: str | list[Part] | None) -> tuple[str, list[str]]:
    """All parts of a message as one text and its images in base64."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts, images = [], []
    for part in content:
        if part.type in ("text", "refusal"):
            texts.append(part.text or part.refusal)
        elif part.type == "image_url":
            images.append(_image(part.image_url))
        else:
            raise Unsupported(
                f"This gateway takes text and images; not content parts of type {part.type!r}.", param="messages"
            )
    return "\n".join(texts), images


def _image(given: ImageUrl | str | None) -> str:
    if given is None:
        raise BadRequest("A content part of type `image_url` needs an `image_url`.", param="messages")
    return extension.image(given if isinstance(given, str) else given.url, param="messages")


def _tool_call(call: CalledTool) -> ToolCall:
    if call.function is None:
        raise Unsupported("The only tools here are functions: a call needs `function`.", param="messages")
    return ToolCall(Function(call.function.name, tools.arguments(call.function.arguments, "messages")), call.id)
