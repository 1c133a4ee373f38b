"""Functions that a model may call, however a dialect writes them."""

from typing import Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from gateway.dialects import forced
from gateway.dialects.ollama import ChatRequest
from gateway.errors import BadRequest, Unsupported

TOOLS_MAX = 128
CALLS_MAX = 256
"""in one earlier message"""
NAME_CHARS_MAX = 128
_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')

Choice = Literal["auto", "none", "required"]


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function a model may call. `parameters` is its JSON schema, passed on as it came; templates count on one."""

    name: str
    description: str = ""
    parameters: Raw = msgspec.field(default_factory=lambda: _NO_ARGUMENTS)  # no plain default: that would be left out

    def encode(self) -> Raw:
        """As the hub wants it."""
        return Raw(msgspec.json.encode({"type": "function", "function": self}))


def offer(request: ChatRequest, tools: list[Tool], choice: Choice) -> ChatRequest:
    """The request with those tools that the choice leaves. "required" needs `forced.Forced` around its renderer.

    Raises `BadRequest` for a choice that nothing can fulfil.
    """
    if len(tools) > TOOLS_MAX:
        raise BadRequest(f"A request may offer {TOOLS_MAX} tools; this one has {len(tools)}.", param="tools")
    if choice == "none":
        return request
    if choice == "auto":
        return replace(request, tools=[tool.encode() for tool in tools])
    if not tools:
        raise BadRequest("`tool_choice` wants a tool, and the request offers none.", param="tool_choice")
    if request.format is not msgspec.UNSET:
        raise Unsupported(
            "`tool_choice` cannot force a call while a response format is asked for.", param="tool_choice"
        )
    functions = [forced.Function(tool.name, tool.description, tool.parameters) for tool in tools]
    return forced.asked(request, functions)


def arguments(text: str, param: str | None = None) -> Raw:
    """The arguments of an earlier call, which are a JSON object as text. Raises `BadRequest`."""
    try:
        value = msgspec.json.decode(text.strip() or "{}", type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest("The `arguments` of a tool call must be a JSON object, as text.", param=param) from None
    return Raw(msgspec.json.encode(value))
