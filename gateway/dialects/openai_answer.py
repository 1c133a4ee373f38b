"""The hub's answer to a chat into OpenAI's, streamed or whole."""

from typing import Any

import msgspec

from gateway.core.tally import Counts
from gateway.dialects import asked, openai_errors
from gateway.dialects.frames import SSE_DONE, sse
from gateway.dialects.ollama import Reply
from gateway.errors import GatewayError

FINGERPRINT = "fp_llm_gateway"


class Renderer(asked.Renderer):
    """Turns the hub's answer to one call into OpenAI's, streamed or whole. `created_s` is unix seconds."""

    def __init__(self, model: str, include_usage: bool, call_id: str, created_s: int) -> None:
        self._id = f"chatcmpl-{call_id.replace('-', '')}"
        self._model = model
        self._include_usage = include_usage
        self._created_s = created_s
        self._begun = False
        self._calls = 0

    def feed(self, reply: Reply) -> bytes:
        """The frames for one line of the answer."""
        return self._delta(reply) if reply.carries_tokens else b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        """The frames that end the stream, from its final line."""
        frames = self._delta(reply) if reply.carries_tokens or not self._begun else b""
        frames += self._frame([{"index": 0, "delta": {}, "finish_reason": self._finish(reply), "logprobs": None}])
        if self._include_usage:
            frames += self._frame([], usage=usage(counts))
        return frames + SSE_DONE

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if reply.thought:
            message |= {"reasoning_content": reply.thought, "reasoning": reply.thought}
        if reply.tool_calls:
            message["tool_calls"] = self._tool_calls(reply, with_index=False)
            message["content"] = reply.text or None
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self._finish(reply),
            "logprobs": _logprobs(reply),
        }
        return msgspec.json.encode(self._object("chat.completion", [choice]) | {"usage": usage(counts)})

    def error(self, error: GatewayError) -> bytes:
        """The frame of a failure after the stream began; no [DONE] follows, for it is not done."""
        return sse(openai_errors.body(error))

    def _delta(self, reply: Reply) -> bytes:
        delta: dict[str, Any] = {"content": reply.text}
        if not self._begun:
            delta = {"role": "assistant", **delta}
            self._begun = True
        if reply.thought:
            delta |= {"reasoning_content": reply.thought, "reasoning": reply.thought}
        if reply.tool_calls:
            delta["tool_calls"] = self._tool_calls(reply, with_index=True)
        return self._frame([{"index": 0, "delta": delta, "finish_reason": None, "logprobs": _logprobs(reply)}])

    def _tool_calls(self, reply: Reply, *, with_index: bool) -> list[dict[str, Any]]:
        """Calls with ids of our own: the backends' may repeat."""
        calls = []
        for call in reply.tool_calls:
            entry: dict[str, Any] = {
                "id": f"call_{self._id[-20:]}{self._calls}",
                "type": "function",
                "function": {"name": call.function.name, "arguments": bytes(call.function.arguments).decode()},
            }
            calls.append({"index": self._calls, **entry} if with_index else entry)
            self._calls += 1
        return calls

    def _finish(self, reply: Reply) -> str:
        if reply.done_reason == "length":
            return "length"
        return "tool_calls" if self._calls else "stop"

    def _frame(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return sse(msgspec.json.encode(self._object("chat.completion.chunk", choices) | more))

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created_s,
            "model": self._model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }


def usage(counts: Counts) -> dict[str, int]:
    """The `usage` object, which every dialect of OpenAI's family shares."""
    prompt, completion = counts.prompt_tokens, counts.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _logprobs(reply: Reply) -> dict[str, Any] | None:
    return {"content": reply.logprobs, "refusal": None} if reply.logprobs else None
