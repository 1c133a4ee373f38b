"""POST /v1/messages and its count_tokens: Anthropic's requests into the hub's. Answers: `answer`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.core import limits
from gateway.dialects import asked as spoke
from gateway.dialects import forced, policy, stops, tools
from gateway.dialects.anthropic.answer import About, Streamed, Whole
from gateway.dialects.anthropic.blocks import joined, messages
from gateway.dialects.anthropic.request import CountTokensRequest, MessagesRequest, ToolGiven
from gateway.dialects.asked import Asked
from gateway.dialects.extension import schema_of
from gateway.dialects.ollama import ChatRequest, Message
from gateway.errors import BadRequest, Unsupported

_messages = msgspec.json.Decoder(MessagesRequest)
_count = msgspec.json.Decoder(CountTokensRequest)
_REFUSED = {
    "container": "runs no code for a model",
    "mcp_servers": "calls no MCP servers; call them in the client and offer their `tools`",
    "thread": "keeps no conversations; send all `messages`",
    "compaction": "does not compact conversations; ask for a summary in the `messages`",
}


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError` or `BadRequest`, naming the field."""
    asked = _messages.decode(body)
    upstream, forced_tools = _upstream(asked)
    upstream.options = asked.sampling(temperature=asked.temperature, top_p=asked.top_p, top_k=asked.top_k)
    sequences = policy.stops(asked.stop_sequences or [], "stop_sequences")
    streamed = bool(asked.stream)
    return Asked(
        model=asked.model,
        upstream=upstream,
        streamed=streamed,
        collected=bool(sequences) and not streamed,
        output_tokens_max=asked.max_tokens,
        end_user=(asked.metadata and asked.metadata.user_id) or "",
        renderer=_renderer(asked, upstream, Streamed if streamed else Whole, sequences, forced_tools),
    )


def parse_count(body: bytes) -> Asked:
    """The same of a request that is only to be counted: nothing is asked of a backend."""
    asked = _count.decode(body)
    upstream, _ = _upstream(asked)
    return Asked(model=asked.model, upstream=upstream, renderer=_renderer(asked, upstream, Whole, [], []))


def _upstream(asked: CountTokensRequest) -> tuple[ChatRequest, list[tools.Tool]]:
    """The hub's request, and the tools one of which has to be called; none where none has to be."""
    for field, reason in _REFUSED.items():
        if getattr(asked, field, None):
            raise Unsupported(f"`{field}`: this gateway {reason}.", param=field)
    system = joined(asked.system or "")
    request = ChatRequest(
        messages=[*([Message(role="system", content=system)] if system else []), *messages(asked.messages)],
        format=_format(asked),
        **_thinking(asked),
    )
    offered, choice = _offered(asked)
    return tools.offer(request, offered, choice), offered if choice == "required" else []


def _renderer(
    asked: CountTokensRequest,
    upstream: ChatRequest,
    kind: type[Streamed] | type[Whole],
    sequences: list[str],
    forced_tools: list[tools.Tool],
) -> Callable[[str, int], spoke.Renderer]:
    size = upstream.size()
    about = About(
        model=asked.model,
        input_tokens=limits.prompt_expected(size.text_bytes, size.messages, size.images),
        shows_thinking=_shows_thinking(asked),
        one_tool_use=bool(asked.tool_choice and asked.tool_choice.disable_parallel_tool_use),
    )
    make = partial(_made, kind, about, sequences)
    # the text of a forced call is the call: sequences within it do not count
    return forced.forcing(make, (tool.name for tool in forced_tools)) if forced_tools else make


def _made(
    kind: type[Streamed] | type[Whole], about: About, sequences: list[str], call_id: str, created_s: int
) -> spoke.Renderer:
    answer = kind(about, call_id)
    return stops.Stopping(answer, sequences) if sequences else answer


def _tool(given: ToolGiven) -> tools.Tool:
    if given.type not in (None, "custom"):
        raise Unsupported(
            f"This gateway has no tools of type {given.type!r}: describe yours with an `input_schema`.", param="tools"
        )
    if not 0 < len(given.name) <= tools.NAME_CHARS_MAX:
        raise BadRequest(f"The `name` of a tool has 1 to {tools.NAME_CHARS_MAX} characters.", param="tools")
    schema = schema_of(given.input_schema, "The `input_schema` of a tool", "tools")
    return tools.Tool(given.name, given.description or "", schema)


def _offered(asked: CountTokensRequest) -> tuple[list[tools.Tool], tools.Choice]:
    """The tools that the choice leaves, and the choice among them. Raises `BadRequest`."""
    offered, given = [_tool(tool) for tool in asked.tools or []], asked.tool_choice
    if given is None or given.type in ("auto", "none"):
        return offered, "none" if given and given.type == "none" else "auto"
    if given.type == "any":
        return offered, "required"
    named = [tool for tool in offered if tool.name == given.name]
    if not named:
        raise BadRequest("`tool_choice` names a tool that `tools` does not offer.", param="tool_choice")
    return named, "required"


def _format(asked: CountTokensRequest) -> Raw | UnsetType:
    wanted = (asked.output_config and asked.output_config.format) or asked.output_format
    return schema_of(wanted.schema, "The `schema` of an output format", "output_config") if wanted else UNSET


def _thinks(asked: CountTokensRequest) -> bool:
    """Whether Anthropic's own fields ask for thinking. Unasked, Ollama's models would think all the same."""
    if asked.thinking is None or asked.thinking.type == "disabled":
        return False
    if asked.thinking.type == "between_tools":
        raise Unsupported("Ollama's models think always or never: use `adaptive` or `disabled`.", param="thinking")
    return True


def _thinking(asked: CountTokensRequest) -> dict[str, Any]:
    """`keep_alive`, `truncate` and `think` of the hub's request. Models that cannot think just answer."""
    if asked.think is not None:
        return asked.beyond_messages()
    if not _thinks(asked):
        return asked.beyond_messages("none")
    effort = asked.output_config.effort if asked.output_config else None
    return {"think": True, "think_if_able": True} | asked.beyond_messages(effort)


def _shows_thinking(asked: CountTokensRequest) -> bool:
    if asked.think is not None:
        return bool(asked.think)
    return _thinks(asked) and asked.thinking is not None and asked.thinking.display != "omitted"
