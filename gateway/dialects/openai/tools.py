"""OpenAI's tools, and its choice among them, in the terms of `tools`."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.dialects.extension import schema_of
from gateway.dialects.tools import NAME_CHARS_MAX, TOOLS_MAX, Choice, Tool
from gateway.errors import BadRequest, Unsupported


class OfferedFunction(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    description: str | None = None
    parameters: Raw | UnsetType = UNSET


class OfferedTool(Struct):
    """A function, whose schema is passed on whole. `strict` is not read: Ollama promises no such thing."""

    type: str = "function"
    function: OfferedFunction | None = None


class Allowed(Struct):
    mode: Literal["auto", "required"]
    tools: Annotated[list[OfferedTool], Meta(max_length=TOOLS_MAX)]


class Named(Struct):
    """A choice that names tools: the one that must be called, or those that may be."""

    type: str
    function: OfferedFunction | None = None
    allowed_tools: Allowed | None = None


ToolChoice = Literal["none", "auto", "required"] | Named


def offered(given: list[OfferedTool], choice: ToolChoice | None) -> tuple[list[Tool], Choice]:
    """The tools that the choice leaves, and "auto", "none" or "required" for them. Raises `BadRequest`."""
    tools = [_tool(one) for one in given]
    if not isinstance(choice, Named):
        return tools, choice or "auto"
    if choice.type == "allowed_tools" and choice.allowed_tools:
        names = {_function(one, "tool_choice").name for one in choice.allowed_tools.tools}
        return _named(tools, names), choice.allowed_tools.mode
    return _named(tools, {_function(choice, "tool_choice").name}), "required"


def _tool(given: OfferedTool) -> Tool:
    function = _function(given, "tools")
    about = function.description or ""
    if function.parameters is UNSET or bytes(function.parameters) == b"null":
        return Tool(function.name, about)
    return Tool(function.name, about, schema_of(function.parameters, "The `parameters` of a tool", "tools"))


def _function(given: OfferedTool | Named, param: str) -> OfferedFunction:
    if given.type != "function":
        raise Unsupported(f"The only tools here are functions, not {given.type!r}.", param=param)
    if given.function is None:
        raise BadRequest("A tool of type `function` needs `function`.", param=param)
    return given.function


def _named(tools: list[Tool], names: set[str]) -> list[Tool]:
    """Those with these names, all of which must be there."""
    if names - {tool.name for tool in tools} or not names:
        raise BadRequest("`tool_choice` names a tool that `tools` does not offer.", param="tool_choice")
    return [tool for tool in tools if tool.name in names]
