"""The hub's answer as Ollama's own, which it nearly is: one JSON object, or one NDJSON line for each piece.

Names and counts are the gateway's: `model` as the client spelt it, and the tokens of the bill.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from gateway.core.tally import Counts
from gateway.dialects import asked
from gateway.dialects.native import errors as native_errors
from gateway.dialects.ollama import Reply, ToolCall
from gateway.errors import GatewayError


class TextRenderer(asked.Renderer):
    """What /api/chat and /api/generate have in common. `created_s` is unix seconds."""

    content_type = b"application/x-ndjson"
    beat = b""

    def __init__(self, model: str, call_id: str, created_s: int) -> None:
        self._model = model
        self._created_s = created_s

    def said(self, reply: Reply) -> dict[str, Any]:
        """The fields that hold a piece of the answer."""
        raise NotImplementedError

    def feed(self, reply: Reply) -> bytes:
        return _line(self._head(reply) | {"done": False} | _logprobs(reply))

    def last(self, reply: Reply, counts: Counts) -> bytes:
        return self.whole(reply, counts) + b"\n"

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        """Ollama leaves out what is 0 or empty."""
        end = {
            "done_reason": reply.done_reason,
            **_logprobs(reply),
            "context": None if reply.context is UNSET else reply.context,
            "total_duration": reply.total_duration,
            "load_duration": reply.load_duration,
            "prompt_eval_count": counts.prompt_tokens,
            "prompt_eval_duration": reply.prompt_eval_duration,
            "eval_count": counts.completion_tokens,
            "eval_duration": reply.eval_duration,
        }
        given = {name: value for name, value in end.items() if value}
        return msgspec.json.encode(self._head(reply) | {"done": True} | given)

    def error(self, error: GatewayError) -> bytes:
        """The last line of a stream that failed: no `done` ever comes."""
        return native_errors.body(error) + b"\n"

    def _head(self, reply: Reply) -> dict[str, Any]:
        created_at = reply.created_at or datetime.fromtimestamp(self._created_s, UTC).isoformat()
        return {"model": self._model or reply.model, "created_at": created_at, **self.said(reply)}


class ChatRenderer(TextRenderer):
    """Turns the hub's answer into that of /api/chat."""

    def said(self, reply: Reply) -> dict[str, Any]:
        role = reply.message.role if reply.message else ""
        message: dict[str, Any] = {"role": role or "assistant", "content": reply.text}
        if reply.thought:
            message["thinking"] = reply.thought
        if reply.tool_calls:
            message["tool_calls"] = [_tool_call(call) for call in reply.tool_calls]
        return {"message": message}


class GenerateRenderer(TextRenderer):
    """Turns the hub's answer into that of /api/generate."""

    def said(self, reply: Reply) -> dict[str, Any]:
        return {"response": reply.text} | ({"thinking": reply.thought} if reply.thought else {})


def _tool_call(call: ToolCall) -> dict[str, Any]:
    """With the backend's own id and index: a client of Ollama has seen no others."""
    index = {} if call.function.index is UNSET else {"index": call.function.index}
    function = index | {"name": call.function.name, "arguments": call.function.arguments}
    return ({"id": call.id} if call.id else {}) | {"function": function}


def _logprobs(reply: Reply) -> dict[str, Any]:
    return {"logprobs": reply.logprobs} if reply.logprobs else {}


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
