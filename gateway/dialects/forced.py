"""Calls that a model must make, although Ollama knows no such thing as `tool_choice` (decision 6).

They are forced with what Ollama does have: `format`, a JSON schema that the answer has to fit. The functions are
described in the first system message, and the answer, which is JSON, is turned back into a call. That works with every
model that makes text, also with those that know no tools.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from gateway.core.tally import Counts
from gateway.dialects import ollama
from gateway.dialects.asked import Renderer
from gateway.dialects.ollama import ChatRequest, Message, Reply, ToolCall
from gateway.errors import GatewayError, Unsupported

_HOMES = ("$defs", "definitions")
_SAYS_ITS_TYPE = frozenset({"type", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"})


class Function(Struct, frozen=True, omit_defaults=True):
    """One of the functions that may be called. `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Raw


def asked(request: ChatRequest, functions: list[Function]) -> ChatRequest:
    """The request, such that its answer can only be a call of one of them. Raises `Unsupported`."""
    return replace(request, messages=_instructed(request.messages, functions), format=_schema(functions))


def forcing(make: Callable[[str, int], Renderer], names: Iterable[str]) -> Callable[[str, int], Renderer]:
    """A renderer factory around another: of an answer that had to be a call of one of these functions."""
    return partial(_made, make, frozenset(names))


def _made(make: Callable[[str, int], Renderer], names: frozenset[str], call_id: str, created_s: int) -> Renderer:
    return Forced(make(call_id, created_s), names)


def _instructed(messages: list[Message], functions: list[Function]) -> list[Message]:
    """The messages with our instruction in the first system message: templates may know but one."""
    text = (
        "Answer with a call of one of these functions, as a JSON object with its `name` and its `arguments`, and with "
        "nothing else:\n" + "\n".join(msgspec.json.encode(function).decode() for function in functions)
    )
    if messages and messages[0].role == "system":
        first, *others = messages
        return [replace(first, content=f"{first.content}\n\n{text}"), *others]
    return [Message(role="system", content=text), *messages]


def _schema(functions: list[Function]) -> Raw:
    """One object for each function: its name and its arguments. What their schemas refer to stands at the root."""
    forms: list[dict[str, Any]] = []
    shared: dict[str, Any] = {}
    for number, function in enumerate(functions):
        arguments, definitions = _moved(msgspec.json.decode(function.parameters), f"f{number}")
        shared |= definitions
        properties = {"name": {"type": "string", "enum": [function.name]}, "arguments": arguments}
        forms.append({"type": "object", "properties": properties, "required": ["name", "arguments"]})
    whole = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return Raw(msgspec.json.encode(whole | ({"$defs": shared} if shared else {})))


def _moved(schema: dict[str, Any], home: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema that is no longer the root, and what it refers to under names of its own: references begin there."""
    if not _SAYS_ITS_TYPE & schema.keys():
        schema = {"type": "object"} | schema
    own = {name: part for name, part in schema.items() if name not in _HOMES}
    definitions = {
        f"{home}_{name}": _referring(part, home)
        for place in _HOMES
        if isinstance(schema.get(place), dict)
        for name, part in schema[place].items()
    }
    moved = _referring(own, home)
    if _refers_to(schema, "#"):
        return {"$ref": f"#/$defs/{home}"}, definitions | {home: moved}
    return moved, definitions


def _referring(value: Any, home: str) -> Any:
    """The same with its references led to the new place. Raises `Unsupported` for those that cannot be."""
    if isinstance(value, list):
        return [_referring(part, home) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _led(part, home) if name == "$ref" and isinstance(part, str) else _referring(part, home)
        for name, part in value.items()
    }


def _led(reference: str, home: str) -> str:
    if reference == "#":
        return f"#/$defs/{home}"
    for place in _HOMES:
        if reference.startswith(f"#/{place}/"):
            return f"#/$defs/{home}_{reference.removeprefix(f'#/{place}/')}"
    raise Unsupported("A forced call needs tools whose schemas refer to their own `$defs` alone.", param="tool_choice")


def _refers_to(value: Any, reference: str) -> bool:
    if isinstance(value, list):
        return any(_refers_to(part, reference) for part in value)
    if not isinstance(value, dict):
        return False
    return value.get("$ref") == reference or any(_refers_to(part, reference) for part in value.values())


class _Call(Struct):
    name: str
    arguments: dict[str, Raw]


_call = msgspec.json.Decoder(_Call)


class Forced(Renderer):
    """Around the renderer of a call that had to end in a function call: turns the JSON text into that call."""

    def __init__(self, inner: Renderer, names: frozenset[str]) -> None:
        self._inner = inner
        self._names = names
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
            call = _call.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return _with(reply, [], text)
        if call.name not in self._names:
            return _with(reply, [], text)
        arguments = Raw(msgspec.json.encode(call.arguments))
        return _with(reply, [ToolCall(ollama.Function(call.name, arguments))], "")


def _with(reply: Reply, calls: list[ToolCall], text: str) -> Reply:
    return replace(reply, message=Message(content=text, thinking=reply.thought, tool_calls=calls), logprobs=None)
