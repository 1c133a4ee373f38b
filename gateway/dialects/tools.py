"""Functions that a model may call, and calls it must make although Ollama knows no such thing as `tool_choice`.

A call that must be made is forced with what Ollama does have: `format`, a JSON schema that the answer has to fit. The
functions are then described in a system message of ours, and the answer, which is JSON, is turned back into a call.
That works with every model that makes text, also with those that know no tools.
"""

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from gateway.core.tally import Counts
from gateway.dialects.asked import Renderer
from gateway.dialects.ollama import ChatRequest, Function, Message, Reply, ToolCall
from gateway.errors import BadRequest, GatewayError, Unsupported

TOOLS_MAX = 128
NAME_CHARS_MAX = 128
_NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function a model may call. `parameters` is its JSON schema, passed on as it came; templates count on one."""

    name: str
    description: str = ""
    parameters: Raw = msgspec.field(default_factory=lambda: _NO_ARGUMENTS)  # no plain default: that would be left out

    def encode(self) -> Raw:
        """As the hub wants it."""
        return Raw(msgspec.json.encode({"type": "function", "function": self}))


def offer(request: ChatRequest, tools: list[Tool], choice: str) -> ChatRequest:
    """The request with its tools. `choice`: "auto", "none", "required", or the name of the one to be called.

    Raises `BadRequest` for a choice that nothing can fulfil. A forced call needs `Forced` around its renderer.
    """
    if len(tools) > TOOLS_MAX:
        raise BadRequest(f"A request may offer {TOOLS_MAX} tools; this one has {len(tools)}.", param="tools")
    if choice == "none":
        return request
    if choice == "auto":
        return replace(request, tools=[tool.encode() for tool in tools])
    wanted = [tool for tool in tools if choice in ("required", tool.name)]
    if not wanted:
        raise BadRequest("`tool_choice` wants a tool that the request does not offer.", param="tool_choice")
    if request.format is not msgspec.UNSET:
        raise Unsupported(
            "`tool_choice` cannot force a call while a response format is asked for.", param="tool_choice"
        )
    return replace(request, messages=_instructed(request.messages, wanted), format=_schema(wanted))


def forces(choice: str) -> bool:
    return choice not in ("auto", "none")


def arguments(text: str, param: str | None = None) -> Raw:
    """The arguments of an earlier call, which are a JSON object as text. Raises `BadRequest`."""
    try:
        value = msgspec.json.decode(text.strip() or "{}", type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest("The `arguments` of a tool call must be a JSON object, as text.", param=param) from None
    return Raw(msgspec.json.encode(value))


def _schema(tools: list[Tool]) -> Raw:
    """One object for each function that may be called: its name and its arguments."""
    forms = [
        {
            "type": "object",
            "properties": {"name": {"type": "string", "enum": [tool.name]}, "arguments": tool.parameters},
            "required": ["name", "arguments"],
        }
        for tool in tools
    ]
    return Raw(msgspec.json.encode(forms[0] if len(forms) == 1 else {"anyOf": forms}))


def _instructed(messages: list[Message], tools: list[Tool]) -> list[Message]:
    """The messages with our instruction in the first system message: templates may know but one."""
    text = (
        "Answer with a call of one of these functions, as a JSON object with its `name` and its `arguments`, and with "
        "nothing else:\n" + "\n".join(msgspec.json.encode(tool).decode() for tool in tools)
    )
    if messages and messages[0].role == "system":
        first, *others = messages
        return [replace(first, content=f"{first.content}\n\n{text}"), *others]
    return [Message(role="system", content=text), *messages]


class _Forced(Struct):
    name: str
    arguments: Raw


_forced = msgspec.json.Decoder(_Forced)


class Forced(Renderer):
    """Around the renderer of a call that had to end in a function call: turns the JSON text into that call."""

    def __init__(self, inner: Renderer) -> None:
        self._inner = inner
        self._text: list[str] = []
        self.content_type, self.beat = inner.content_type, inner.beat

    def feed(self, reply: Reply) -> bytes:
        self._text.append(reply.text)
        return self._inner.feed(_with(reply, [], "")) if reply.thought else b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        return self._inner.last(self._called(reply), counts)

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        return self._inner.whole(self._called(reply), counts)

    def error(self, error: GatewayError) -> bytes:
        return self._inner.error(error)

    def _called(self, reply: Reply) -> Reply:
        """The final line with the call in place of its text; as it is when the text is no call, as when it was cut."""
        text = "".join([*self._text, reply.text])
        try:
            call = _forced.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return _with(reply, [], text)
        if not bytes(call.arguments).lstrip().startswith(b"{"):
            return _with(reply, [], text)
        return _with(reply, [ToolCall(Function(call.name, call.arguments))], "")


def _with(reply: Reply, calls: list[ToolCall], text: str) -> Reply:
    return replace(reply, message=Message(content=text, thinking=reply.thought, tool_calls=calls), logprobs=None)
