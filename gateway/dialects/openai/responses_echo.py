"""What the answer of /v1/responses repeats of its request."""

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from gateway.dialects.ollama import ChatRequest
from gateway.dialects.openai.responses_request import Reasoning, ResponsesRequest
from gateway.dialects.openai.responses_tools import FunctionTool

ECHO_BYTES_MAX = 1 << 17
"""Most of one field that the answer repeats: a stream carries it three times, and its buffer is bounded."""


def echo(asked: ResponsesRequest, upstream: ChatRequest, offered: list[FunctionTool]) -> dict[str, Any]:
    """The fields as they were understood. null: the model's own default is in force."""
    options, reasoning = upstream.options, asked.reasoning or Reasoning()
    return {
        "instructions": _repeated(asked.instructions, Raw(b"null")),
        "tools": _repeated(offered, Raw(b"[]")),
        "text": _repeated(_text(asked), Raw(b"null")),
        "tool_choice": _repeated(asked.tool_choice or "auto", Raw(b'"auto"')),
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "temperature": None if options.temperature is UNSET else options.temperature,
        "top_p": None if options.top_p is UNSET else options.top_p,
        "top_logprobs": upstream.top_logprobs,
        "max_output_tokens": asked.max_output_tokens,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary},
        "truncation": "disabled" if upstream.truncate is False else "auto",
        "metadata": asked.metadata or {},
        "user": _repeated(asked.user, Raw(b"null")),
        "safety_identifier": _repeated(asked.safety_identifier, Raw(b"null")),
        "previous_response_id": None,
        "background": False,
        "store": False,
    }


def _text(asked: ResponsesRequest) -> dict[str, Any]:
    wanted = asked.text.format if asked.text else None
    if wanted is None or wanted.type != "json_schema":
        return {"format": {"type": wanted.type if wanted else "text"}}
    given = {"name": wanted.name or "response", "schema": wanted.schema, "description": wanted.description}
    return {"format": {"type": wanted.type, "strict": wanted.strict, **given}}


def _repeated(value: Any, too_long: Raw) -> Raw:
    """The value encoded once for all events that carry it, or what stands for one that is too long."""
    encoded = msgspec.json.encode(value)
    return Raw(encoded) if len(encoded) <= ECHO_BYTES_MAX else too_long
