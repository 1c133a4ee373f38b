"""The input of /v1/responses, a list of items, into the hub's messages.

OpenAI cuts what an assistant did into items: its reasoning, its text, each of its calls. Models saw one message, so
items of the assistant that follow each other are put together again.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.dialects import tools
from gateway.dialects.extension import image
from gateway.dialects.ollama import Function, Message, ToolCall
from gateway.dialects.policy import PARTS_MAX
from gateway.errors import BadRequest, Unsupported

ITEMS_MAX = 2_048
_TEXTS = frozenset({"input_text", "output_text", "summary_text", "reasoning_text", "text"})


class Part(Struct):
    """A piece of an item's content: text, a refusal, or an image as a data: URI."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None


Content = str | Annotated[list[Part], Meta(max_length=PARTS_MAX)]


class InputMessage(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class InputReasoning(Struct):
    """`content` is the whole thought, `summary` what may be shown of it; of this gateway's answers the same."""

    summary: list[Part] | None = None
    content: list[Part] | None = None


class InputCall(Struct):
    call_id: str
    name: str
    arguments: str


class InputCallOutput(Struct):
    output: Content
    call_id: str | None = None
    name: str | None = None


def messages(items: list[dict[str, Any]]) -> list[Message]:
    """The hub's messages. Raises `BadRequest`, or `Unsupported` for an item or a part that this gateway cannot use."""
    conversation = _Conversation()
    for number, item in enumerate(items):
        try:
            conversation.add(item)
        except msgspec.ValidationError as error:
            raise BadRequest(f"The request is not valid: `input[{number}]`: {error}", param="input") from None
        except BadRequest as error:
            error.param = error.param or "input"
            raise
    return conversation.messages


class _Conversation:
    """Grows by items. Knows the calls so far: an output names its call's id, models want the function's name."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._functions: dict[str, str] = {}
        self._ways: dict[str, Callable[[dict[str, Any]], None]] = {
            "message": self._message,
            "reasoning": self._reasoning,
            "function_call": self._call,
            "function_call_output": self._output,
        }

    def add(self, item: dict[str, Any]) -> None:
        kind = item.get("type") or ("message" if "role" in item else "item_reference")
        way = self._ways.get(kind) if isinstance(kind, str) else None
        if way:
            way(item)
        elif kind == "item_reference":
            raise Unsupported("This gateway keeps no items: send them whole instead of an item_reference.")
        else:
            known = ", ".join(self._ways)
            raise Unsupported(f"This gateway takes no items of type {kind!r:.40} in `input`; it takes {known}.")

    def _message(self, item: dict[str, Any]) -> None:
        message = msgspec.convert(item, InputMessage)
        text, images = _content(message.content)
        if message.role == "assistant":
            self._assistant(Message(content=text, images=images))
        else:
            role = "system" if message.role == "developer" else message.role
            self.messages.append(Message(role=role, content=text, images=images))

    def _reasoning(self, item: dict[str, Any]) -> None:
        """Thoughts that are only there in encrypted form come from elsewhere, and nobody here can read them."""
        reasoning = msgspec.convert(item, InputReasoning)
        text, _ = _content(reasoning.content or reasoning.summary or "")
        if text:
            self._assistant(Message(thinking=text))

    def _call(self, item: dict[str, Any]) -> None:
        call = msgspec.convert(item, InputCall)
        self._functions[call.call_id] = call.name
        function = Function(call.name, tools.arguments(call.arguments))
        self._assistant(Message(tool_calls=[ToolCall(function, id=call.call_id)]))

    def _output(self, item: dict[str, Any]) -> None:
        output = msgspec.convert(item, InputCallOutput)
        call_id = output.call_id or ""
        name = self._functions.get(call_id) or output.name
        if not name:
            raise BadRequest(
                "A function_call_output has a `call_id` that no function_call before it has. This gateway keeps no "
                "conversations: send the calls again together with their outputs."
            )
        text, images = _content(output.output)
        self.messages.append(Message(role="tool", content=text, images=images, tool_name=name, tool_call_id=call_id))

    def _assistant(self, more: Message) -> None:
        """Into the assistant's message if that is the last one, else into a new one."""
        if not self.messages or self.messages[-1].role != "assistant":
            self.messages.append(Message(role="assistant"))
        last = self.messages[-1]
        last.content = _joined(last.content, more.content)
        last.thinking = _joined(last.thinking, more.thinking)
        last.images += more.images
        last.tool_calls += more.tool_calls


def _content(content: Content) -> tuple[str, list[str]]:
    """All parts as one text, and its images in base64."""
    if isinstance(content, str):
        return content, []
    texts, images = [], []
    for part in content:
        if part.type in _TEXTS:
            texts.append(part.text or "")
        elif part.type == "refusal":
            texts.append(part.refusal or "")
        elif part.type == "input_image" and part.image_url:
            images.append(image(part.image_url, param="input"))
        elif part.type == "input_image":
            raise Unsupported("This gateway keeps no files: send an input_image with `image_url`, as a data: URI.")
        else:
            raise Unsupported(f"This gateway takes text and images; not content parts of type {part.type!r:.40}.")
    return "\n".join(texts), images


def _joined(before: str, after: str) -> str:
    return f"{before}\n{after}" if before and after else before or after
