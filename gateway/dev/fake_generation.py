"""One answer of a model of the fake Ollama, and its two forms: lines of a stream, or one object."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.dev.fake_times import stamp

_encode = msgspec.json.Encoder().encode


class Generation(Struct, kw_only=True):
    """One answer of a model. A token is one piece of text or thinking, or one tool call."""

    path: str
    streamed: bool = True
    model: str
    thoughts: list[str] = field(default_factory=list)
    tokens: list[str]
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    tool_calls_apart: bool = False
    prompt_tokens: int
    done_reason: str = "stop"
    error: str | None = None
    ends: bool = True
    """False: it stops without done:true and without a word, as a dying runner's does"""
    logprobs: bool = False
    with_context: bool = False

    @property
    def count(self) -> int:
        return len(self.thoughts) + len(self.tokens) + len(self.tool_calls)

    def cut(self, tokens: int) -> None:
        """Keep the first `tokens` only."""
        kept = max(0, tokens)
        self.tokens = self.tokens[: max(0, kept - len(self.thoughts))]
        self.thoughts = self.thoughts[:kept]
        self.tool_calls = self.tool_calls[: max(0, kept - len(self.thoughts) - len(self.tokens))]

    def lines(self) -> list[tuple[bytes, int]]:
        """The streamed form: each line and the tokens in it. The last ends the answer, well or badly."""
        lines = [(self._line(thinking=text), 1) for text in self.thoughts]
        lines += [(self._line(text), 1) for text in self.tokens]
        if self.error is not None:
            return [*lines, (error_body(self.error) + b"\n", 0)]
        if self.tool_calls and self.tool_calls_apart:
            lines += [(self._line(tool_calls=[call]), 1) for call in self.tool_calls]
        if self.ends:
            calls = [] if self.tool_calls_apart else self.tool_calls
            lines.append((self._line(tool_calls=calls, last=True), len(calls)))
        return lines

    def whole(self) -> bytes:
        """The form of stream:false. An error has none: it is a plain 500."""
        text, thinking = "".join(self.tokens), "".join(self.thoughts)
        return self._line(text, thinking, self.tool_calls, last=True).rstrip(b"\n")

    def _line(
        self, text: str = "", thinking: str = "", tool_calls: list[dict[str, Any]] | None = None, last: bool = False
    ) -> bytes:
        line: dict[str, Any] = {"model": self.model, "created_at": stamp(datetime.now(UTC))}
        extra = ({"thinking": thinking} if thinking else {}) | ({"tool_calls": tool_calls} if tool_calls else {})
        if self.path == "/api/chat":
            line["message"] = {"role": "assistant", "content": text} | extra
        else:
            line |= {"response": text} | extra
        line["done"] = last and self.ends
        if self.logprobs and text:
            line["logprobs"] = [_logprob(token) for token in (self.tokens if last else [text])]
        if line["done"]:
            line |= {"done_reason": self.done_reason} | self._context() | self._metrics()
        return _encode(line) + b"\n"

    def _context(self) -> dict[str, Any]:
        return {"context": list(range(1, self.prompt_tokens + self.count + 1))} if self.with_context else {}

    def _metrics(self) -> dict[str, int]:
        prompt_ns, eval_ns = self.prompt_tokens * 5_000_000, self.count * 10_000_000
        return {
            "total_duration": 2_000_000 + prompt_ns + eval_ns,
            "load_duration": 1_700_000,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": prompt_ns,
            "eval_count": self.count,
            "eval_duration": eval_ns,
        }


def error_body(text: str) -> bytes:
    return _encode({"error": text})


def _logprob(token: str) -> dict[str, Any]:
    one = {"token": token, "logprob": -0.12, "bytes": list(token.encode())}
    return one | {"top_logprobs": [one]}
