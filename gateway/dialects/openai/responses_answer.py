"""The hub's answer to a chat into that of /v1/responses: a response object, or the events that make it."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.tally import Counts
from gateway.dialects import asked
from gateway.dialects.frames import sse
from gateway.dialects.ollama import Reply, ToolCall
from gateway.dialects.openai import logprobs as openai_logprobs
from gateway.dialects.openai.responses_output import CallItem, Event, Item, MessageItem, ReasoningItem
from gateway.errors import GatewayError

_ENDS = {"completed": "response.completed", "incomplete": "response.incomplete"}


class Form(Struct, frozen=True, kw_only=True):
    """What the answer needs of the request. `echo` are the fields that it repeats."""

    model: str
    echo: dict[str, Any]
    logprobs: bool = False
    encrypted: bool = False
    """whether reasoning items are to have `encrypted_content`"""
    one_call: bool = False
    """whether only the first of several calls is kept"""


class Renderer(asked.Renderer):
    """Turns the hub's answer to one call into OpenAI's. `created_s` is unix seconds."""

    def __init__(self, form: Form, call_id: str, created_s: int) -> None:
        self._form = form
        self._tail = call_id.replace("-", "")
        self._created_s = created_s
        self._model = form.model
        self._sent = 0
        self._done: list[dict[str, Any]] = []
        self._open: Item | None = None
        self._calls = 0
        self._thought_lines = 0

    def feed(self, reply: Reply) -> bytes:
        return self._frames(self._opening(reply) + self._grown(reply))

    def last(self, reply: Reply, counts: Counts) -> bytes:
        """The events that end the answer. Each streamed line with thought was one reasoning token."""
        events = self._opening(reply) + self._grown(reply)
        status, ending = self._finished(reply)
        reasoning = min(self._thought_lines, counts.completion_tokens)
        response = self._response(status, usage=_usage(counts, reasoning))
        return self._frames([*events, *ending, (_ENDS[status], {"response": response})])

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        """The response object. Nothing says how many of the tokens were thought: its share of the characters does."""
        self._model = self._model or reply.model
        self._grown(reply)
        status, _ = self._finished(reply)
        return msgspec.json.encode(self._response(status, usage=_usage(counts, _share(reply, counts))))

    def error(self, error: GatewayError) -> bytes:
        """The failed response with what there is of its output; created first, if only beats were sent."""
        opening = self._opening(Reply())
        output = [self._open.shown("incomplete")] if self._open else []
        response = self._response("failed", error=_failure(error), output=[*self._done, *output])
        return self._frames([*opening, ("response.failed", {"response": response})])

    def _opening(self, reply: Reply) -> list[Event]:
        if self._sent:
            return []
        self._model = self._model or reply.model
        response = self._response("in_progress")
        return [("response.created", {"response": response}), ("response.in_progress", {"response": response})]

    def _grown(self, reply: Reply) -> list[Event]:
        """What one line adds. A line of another kind than the one before it ends the item and begins the next."""
        events: list[Event] = []
        if reply.thought:
            self._thought_lines += 1
            if not isinstance(self._open, ReasoningItem):
                events += self._begun(ReasoningItem(self._id("rs"), self._index, encrypted=self._form.encrypted))
            assert isinstance(self._open, ReasoningItem)
            events += self._open.grow(reply.thought)
        if reply.text:
            if not isinstance(self._open, MessageItem):
                events += self._begun(MessageItem(self._id("msg"), self._index))
            assert isinstance(self._open, MessageItem)
            events += self._open.grow(reply.text, _logprobs(reply) if self._form.logprobs else [])
        for call in reply.tool_calls:
            events += self._called(call)
        return events

    def _called(self, call: ToolCall) -> list[Event]:
        """A call, whole, with ids of our own: the backends' may repeat."""
        if self._calls and self._form.one_call:
            return []
        self._calls += 1
        item = CallItem(self._id("fc"), self._index, self._id("call"), call.function.name)
        return self._begun(item) + item.grow(call) + self._ended("completed")

    @property
    def _index(self) -> int:
        """Of the item that is begun next."""
        return len(self._done) + (self._open is not None)

    def _id(self, kind: str) -> str:
        return f"{kind}_{self._tail}{self._index}"

    def _begun(self, item: Item) -> list[Event]:
        ended = self._ended("completed")
        self._open = item
        return ended + item.begin()

    def _ended(self, status: str) -> list[Event]:
        if self._open is None:
            return []
        item, self._open = self._open, None
        self._done.append(item.shown(status))
        return item.end(status)

    def _finished(self, reply: Reply) -> tuple[str, list[Event]]:
        """The status and the events that end the last item. An answer without anything has one empty message."""
        status = "incomplete" if reply.done_reason == "length" else "completed"
        begun = [] if self._done or self._open else self._begun(MessageItem(self._id("msg"), 0))
        return status, begun + self._ended(status)

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{self._tail}",
            "object": "response",
            "created_at": self._created_s,
            "status": status,
            "error": None,
            "incomplete_details": cut,
            "model": self._model,
            "output": list(self._done),
            "usage": None,
            **self._form.echo,
            **more,
        }

    def _frames(self, events: list[Event]) -> bytes:
        frames = []
        for kind, fields in events:
            data = msgspec.json.encode({"type": kind, "sequence_number": self._sent, **fields})
            frames.append(sse(data, kind))
            self._sent += 1
        return b"".join(frames)


def _logprobs(reply: Reply) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (openai_logprobs.as_chat(openai_logprobs.of(reply)) or {}).get("content", [])
    return found


def _usage(counts: Counts, reasoning_tokens: int) -> dict[str, Any]:
    """Ollama does not tell how much of a prompt it had in its cache."""
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }


def _share(reply: Reply, counts: Counts) -> int:
    """The thought's share of the output tokens, by characters."""
    thought = len(reply.thought)
    others = len(reply.text) + sum(len(bytes(call.function.arguments)) for call in reply.tool_calls)
    return round(counts.completion_tokens * thought / (thought + others)) if thought else 0


def _failure(error: GatewayError) -> dict[str, Any]:
    """`code` is one of the few that OpenAI's clients know; this gateway's own is in `type`."""
    code = {429: "rate_limit_exceeded", 400: "invalid_prompt"}.get(error.status, "server_error")
    return {"code": code, "message": error.message, "type": error.code, "param": error.param}
