"""The hub's answer to a chat into OpenAI's, streamed or whole; and what completions have in common with that."""

from typing import Any

import msgspec

from gateway.core.tally import Counts
from gateway.dialects import asked
from gateway.dialects.frames import SSE_DONE, sse
from gateway.dialects.ollama import Reply, ToolCall
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai import logprobs as openai_logprobs
from gateway.errors import GatewayError

FINGERPRINT = "fp_llm_gateway"
HERE = "\0"
"""stands where the text of a frame goes"""


class Envelope(msgspec.Struct, frozen=True):
    """What every object of one answer has around its choices. `created_s` is unix seconds."""

    id: str
    model: str
    created_s: int

    def whole(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
        about = {"id": self.id, "object": kind, "created": self.created_s, "model": self.model}
        return msgspec.json.encode({**about, "system_fingerprint": FINGERPRINT, "choices": choices, **more})

    def frame(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return sse(self.whole(kind, choices, **more))


class Renderer(asked.Renderer):
    """Turns the hub's answer to one chat into OpenAI's. `one_call`: of the tool calls of an answer, the first only."""

    def __init__(
        self, model: str, include_usage: bool, call_id: str, created_s: int, *, one_call: bool = False
    ) -> None:
        self._ids = f"call_{call_id.replace('-', '')[-20:]}"
        self._envelope = Envelope(f"chatcmpl-{call_id.replace('-', '')}", model, created_s)
        self._include_usage = include_usage
        self._calls_max = 1 if one_call else None
        self._begun = False
        self._calls = 0
        self._thoughts = 0
        self._around_text: list[bytes] = []
        """the two parts of a frame around its text, once one was made"""

    def feed(self, reply: Reply) -> bytes:
        """The frames for one line of the answer."""
        if self._begun and reply.is_text_alone:
            return self._text(reply.text)
        return self._delta(reply) if reply.carries_tokens or reply.logprobs else b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        """The frames that end the stream, from its final line."""
        frames = self._delta(reply) if reply.carries_tokens or reply.logprobs or not self._begun else b""
        frames += self._frame([{"index": 0, "delta": {}, "finish_reason": self._finish(reply), "logprobs": None}])
        if self._include_usage:
            frames += self._frame([], usage=usage(counts, self._thoughts))
        return frames + SSE_DONE

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        calls = self._tool_calls(reply)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": reply.text or (None if calls else ""),
            "refusal": None,
        }
        message |= _reasoning(reply)
        if calls:
            message["tool_calls"] = [{name: part for name, part in call.items() if name != "index"} for call in calls]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self._finish(reply),
            "logprobs": openai_logprobs.as_chat(openai_logprobs.of(reply)),
        }
        # how many of the tokens were thought is not known of an answer that came in one piece
        counted = usage(counts, None if reply.thought else 0)
        return self._envelope.whole("chat.completion", [choice], usage=counted)

    def error(self, error: GatewayError) -> bytes:
        """The frame of a failure after the stream began; no [DONE] follows, for it is not done."""
        return sse(openai_errors.body(error))

    def _delta(self, reply: Reply) -> bytes:
        calls = self._tool_calls(reply)
        delta: dict[str, Any] = {} if self._begun else {"role": "assistant"}
        delta["content"] = reply.text or (None if calls else "")
        delta |= _reasoning(reply)
        if calls:
            delta["tool_calls"] = calls
        self._begun = True
        self._thoughts += bool(reply.thought)
        logprobs = openai_logprobs.as_chat(openai_logprobs.of(reply))
        return self._frame([{"index": 0, "delta": delta, "finish_reason": None, "logprobs": logprobs}])

    def _text(self, text: str) -> bytes:
        """Nearly every line of an answer: a frame in which nothing changes but the text."""
        if not self._around_text:
            choice = {"index": 0, "delta": {"content": HERE}, "finish_reason": None, "logprobs": None}
            self._around_text = self._frame([choice]).rsplit(msgspec.json.encode(HERE), 1)
        before, after = self._around_text
        return before + msgspec.json.encode(text) + after

    def _tool_calls(self, reply: Reply) -> list[dict[str, Any]]:
        """Calls as a stream has them, with ids of our own: the backends' may repeat."""
        kept = reply.tool_calls if self._calls_max is None else reply.tool_calls[: self._calls_max - self._calls]
        first, self._calls = self._calls, self._calls + len(kept)
        return [self._tool_call(first + number, call) for number, call in enumerate(kept)]

    def _tool_call(self, index: int, call: ToolCall) -> dict[str, Any]:
        arguments = bytes(call.function.arguments).decode()
        function = {"name": call.function.name, "arguments": arguments}
        return {"index": index, "id": f"{self._ids}{index}", "type": "function", "function": function}

    def _finish(self, reply: Reply) -> str:
        return "tool_calls" if self._calls and reply.done_reason != "length" else finish(reply)

    def _frame(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return self._envelope.frame("chat.completion.chunk", choices, **more)


def finish(reply: Reply) -> str:
    """Why an answer ended, in the two words that OpenAI has for text."""
    return "length" if reply.done_reason == "length" else "stop"


def usage(counts: Counts, reasoning_tokens: int | None = None) -> dict[str, Any]:
    """The `usage` object, which every dialect of OpenAI's family shares. None: how much was thought is not known."""
    prompt, completion = counts.prompt_tokens, counts.completion_tokens
    counted: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    counted["total_tokens"] = prompt + completion
    if reasoning_tokens is not None:
        counted["completion_tokens_details"] = {"reasoning_tokens": min(reasoning_tokens, completion)}
    return counted


def _reasoning(reply: Reply) -> dict[str, str]:
    """What the model thought, under both names that clients look for."""
    return {"reasoning_content": reply.thought, "reasoning": reply.thought} if reply.thought else {}
