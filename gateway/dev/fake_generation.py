"""One answer of a model of the fake Ollama, and its two forms: lines of a stream, or one object."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.dev.fake_hardware import LOADED_NS, PROMPT_TOKEN_NS, TOKEN_NS
from gateway.dev.fake_times import stamp

REST_NS = 300_000
_encode = msgspec.json.Encoder().encode


class Durations(Struct, frozen=True, kw_only=True):
    """How long an answer says it took, in nanoseconds. Waiting for a slot is in the total alone, as with Ollama."""

    load_ns: int = LOADED_NS
    slot_ns: int = 0
    prompt_token_ns: float = PROMPT_TOKEN_NS
    token_ns: float = TOKEN_NS

    def metrics(self, evaluated: int, tokens: int) -> dict[str, int]:
        """Without the counts."""
        prompt_ns, eval_ns = round(evaluated * self.prompt_token_ns), round(tokens * self.token_ns)
        return {
            "total_duration": REST_NS + self.load_ns + self.slot_ns + prompt_ns + eval_ns,
            "load_duration": self.load_ns,
            "prompt_eval_duration": prompt_ns,
            "eval_duration": eval_ns,
        }


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
    evaluated_tokens: int | None = None
    """those of the prompt that were not in the cache; None: all"""
    durations: Durations = Durations()
    counts: dict[str, Any] = field(default_factory=dict)
    """what the last line says instead of the truth; None: nothing"""
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

    def endless(self) -> bytes:
        """The beginning of a line, up to within its text."""
        return self._line("\n").partition(b"\\n")[0]

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
            line |= {"done_reason": self.done_reason} | self._context() | self._metrics() | self.counts
            line = {name: value for name, value in line.items() if value is not None}
        return _encode(line) + b"\n"

    def _context(self) -> dict[str, Any]:
        return {"context": list(range(1, self.prompt_tokens + self.count + 1))} if self.with_context else {}

    def _metrics(self) -> dict[str, int]:
        evaluated = self.prompt_tokens if self.evaluated_tokens is None else self.evaluated_tokens
        took = self.durations.metrics(evaluated, self.count)
        return {
            "total_duration": took["total_duration"],
            "load_duration": took["load_duration"],
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": took["prompt_eval_duration"],
            "eval_count": self.count,
            "eval_duration": took["eval_duration"],
        }


def error_body(text: str) -> bytes:
    return _encode({"error": text})


def _logprob(token: str) -> dict[str, Any]:
    one = {"token": token, "logprob": -0.12, "bytes": list(token.encode())}
    return one | {"top_logprobs": [one]}
