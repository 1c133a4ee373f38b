"""The tools of /v1/responses, which are flat, and which of them the model is to call."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.dialects import tools
from gateway.dialects.tools import NAME_CHARS_MAX, TOOLS_MAX, Tool
from gateway.errors import BadRequest, Unsupported


class FunctionTool(Struct):
    """A function that the client runs. `strict` is told back; Ollama holds no model to a tool's schema."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    type: str = "function"

    def offered(self) -> Tool:
        about = self.description or ""
        if not self.parameters:
            return Tool(self.name, about)
        return Tool(self.name, about, Raw(msgspec.json.encode(self.parameters)))


class NamedTool(Struct):
    name: str | None = None
    type: str = "function"


class ToolChoice(Struct, omit_defaults=True):
    """One function by its name, or (allowed_tools) `mode` among some of those that are offered."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[NamedTool], Meta(max_length=TOOLS_MAX)] | None = None


Choice = Literal["auto", "none", "required"] | ToolChoice


def functions(offered: list[dict[str, Any]]) -> list[FunctionTool]:
    """Raises `Unsupported` for tools that OpenAI's servers run, and `BadRequest`."""
    found = []
    for number, tool in enumerate(offered):
        if tool.get("type") != "function":
            raise Unsupported(
                f"This gateway runs no tools, such as {tool.get('type')!r:.40}: it takes functions of your own.",
                param="tools",
            )
        try:
            found.append(msgspec.convert(tool, FunctionTool))
        except msgspec.ValidationError as error:
            raise BadRequest(f"The request is not valid: `tools[{number}]`: {error}", param="tools") from None
    return found


def chosen(offered: list[FunctionTool], choice: Choice) -> tuple[list[FunctionTool], tools.Choice]:
    """The tools the model is to see, and "auto", "none" or "required". Raises `Unsupported` or `BadRequest`.

    A named function becomes the only one, so that no name is taken for one of those words.
    """
    if isinstance(choice, str):
        return offered, choice
    if choice.type == "function":
        return _named(offered, {choice.name}), "required"
    if choice.type == "allowed_tools":
        return _named(offered, {tool.name for tool in choice.tools or []}), choice.mode or "auto"
    raise Unsupported("`tool_choice` can name functions only: this gateway runs no tools.", param="tool_choice")


def _named(offered: list[FunctionTool], names: set[str | None]) -> list[FunctionTool]:
    found = [tool for tool in offered if tool.name in names]
    if {tool.name for tool in found} != names:
        raise BadRequest("`tool_choice` names a tool that the request does not offer.", param="tool_choice")
    return found
