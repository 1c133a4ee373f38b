"""The content blocks of Anthropic's messages, and what the hub makes of a turn of them."""

from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.dialects.ollama import Function, Message, ToolCall
from gateway.dialects.policy import PARTS_MAX
from gateway.errors import BadRequest, Unsupported


class _Typed(Struct, tag_field="type"):
    """What `type` tells apart. `cache_control` and other hints are ignored."""


class Base64Source(_Typed, tag="base64"):
    data: str
    media_type: str


class TextSource(_Typed, tag="text"):
    data: str


class UrlSource(_Typed, tag="url"):
    """Not taken: this gateway fetches nothing."""


class FileSource(_Typed, tag="file"):
    """Not taken: this gateway keeps no files."""


class ContentSource(_Typed, tag="content"):
    """Not taken: chunks are there to be cited, which Ollama's models do not do."""


class Citations(Struct):
    enabled: bool | None = None


class Text(_Typed, tag="text"):
    text: str


class Image(_Typed, tag="image"):
    source: Base64Source | UrlSource | FileSource


class Document(_Typed, tag="document"):
    source: Base64Source | TextSource | UrlSource | FileSource | ContentSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None


class Thinking(_Typed, tag="thinking"):
    thinking: str


class RedactedThinking(_Typed, tag="redacted_thinking"):
    """Dropped: nobody but Anthropic can read it."""


class ToolUse(_Typed, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Raw]


class ToolResult(_Typed, tag="tool_result"):
    tool_use_id: str
    content: str | Annotated[list[Text | Image | Document], Meta(max_length=PARTS_MAX)] | None = None
    is_error: bool | None = None


Block = Text | Image | Document | Thinking | RedactedThinking | ToolUse | ToolResult

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MAY_SAY: dict[str, tuple[type[Struct], ...]] = {
    "user": (Text, Image, Document, ToolResult),
    "assistant": (Text, Thinking, RedactedThinking, ToolUse),
    "system": (Text,),
}


class Turn(Struct):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Meta(max_length=PARTS_MAX)]


def messages(turns: Iterable[Turn]) -> list[Message]:
    """The hub's messages, in order. Raises `BadRequest` for blocks in the wrong place, `Unsupported` for sources."""
    called: dict[str, str] = {}
    return [message for turn in turns for message in _turn(turn, called)]


def joined(content: str | list[Text]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _turn(turn: Turn, called: dict[str, str]) -> list[Message]:
    """One message, but for tool results: each is one of its own. `called` are the names of all calls so far, by id."""
    if isinstance(turn.content, str):
        return [Message(role=turn.role, content=turn.content)]
    for block in turn.content:
        if not isinstance(block, _MAY_SAY[turn.role]):
            kind = block.__struct_config__.tag
            raise BadRequest(f"Messages of role {turn.role!r} have no blocks of type {kind!r}.", param="messages")
    made: list[Message] = []
    for _, group in groupby(turn.content, lambda block: isinstance(block, ToolResult)):
        blocks = list(group)
        results = [_result(block, called) for block in blocks if isinstance(block, ToolResult)]
        made += results or [_spoken(turn.role, blocks, called)]
    return made or [Message(role=turn.role)]


def _spoken(role: str, blocks: list[Block], called: dict[str, str]) -> Message:
    uses = [block for block in blocks if isinstance(block, ToolUse)]
    called |= {use.id: use.name for use in uses}
    text, images = _content(blocks)
    return Message(
        role=role,
        content=text,
        images=images,
        thinking="\n".join(block.thinking for block in blocks if isinstance(block, Thinking)),
        tool_calls=[ToolCall(Function(use.name, Raw(msgspec.json.encode(use.input))), use.id) for use in uses],
    )


def _result(block: ToolResult, called: dict[str, str]) -> Message:
    """A tool's answer. That it is an error can only be said in words: Ollama has no field for it."""
    name = called.get(block.tool_use_id)
    if name is None:
        raise BadRequest("A `tool_result` names a `tool_use` that no message before it has.", param="messages")
    text, images = (block.content, []) if isinstance(block.content, str) else _content(block.content or [])
    if block.is_error:
        text = f"Error: {text}"
    return Message(role="tool", content=text, images=images, tool_name=name, tool_call_id=block.tool_use_id)


def _content(blocks: Iterable[Struct]) -> tuple[str, list[str]]:
    """All text as one, and the images in base64."""
    texts, images = [], []
    for block in blocks:
        if isinstance(block, Text):
            texts.append(block.text)
        elif isinstance(block, Document):
            texts.append(_document(block))
        elif isinstance(block, Image):
            images.append(_image(block.source))
    return "\n".join(texts), images


def _image(source: Base64Source | UrlSource | FileSource) -> str:
    if not isinstance(source, Base64Source):
        raise Unsupported("Images must have a `base64` source: this gateway fetches and keeps none.", param="messages")
    if source.media_type not in _IMAGES:
        raise Unsupported(f"Images must be one of {', '.join(_IMAGES)}.", param="messages")
    return source.data


def _document(block: Document) -> str:
    if not isinstance(block.source, TextSource):
        raise Unsupported("Documents must have a `text` source: Ollama reads no other kind.", param="messages")
    if block.citations and block.citations.enabled:
        raise Unsupported("Ollama's models cite nothing: leave out `citations`.", param="messages")
    return "\n".join(filter(None, (block.title, block.context, block.source.data)))
