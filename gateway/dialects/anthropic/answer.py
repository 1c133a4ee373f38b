"""The hub's answer to a chat into Anthropic's: events of a stream, or one message."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.tally import Counts
from gateway.dialects import asked
from gateway.dialects.anthropic import errors as anthropic_errors
from gateway.dialects.frames import sse
from gateway.dialects.ollama import Reply, ToolCall
from gateway.errors import GatewayError

SIGNATURE = "bGxtLWdhdGV3YXk="
"""of every thinking block: some clients send blocks back only when they have one; nobody checks it"""

Part = tuple[str, Any]
"""("thinking" or "text", text), or ("tool_use", ToolCall)"""


class About(Struct, frozen=True, kw_only=True):
    """What the answer needs of its request. `input_tokens` is an estimate, for the start of a stream."""

    model: str
    input_tokens: int
    shows_thinking: bool
    one_tool_use: bool


class _Answer(asked.Renderer):
    """What both forms share: ids, which parts are shown, why it ended."""

    beat = b'event: ping\ndata: {"type": "ping"}\n\n'

    def __init__(self, about: About, call_id: str) -> None:
        self._about = about
        self._request_id = call_id
        self._hex = call_id.replace("-", "")
        self._stop_sequence: str | None = None
        self._tool_uses = 0
        self._thoughts = 0
        """lines with one, each of which is a token where the answer is streamed"""

    def stopped_at(self, sequence: str) -> None:
        self._stop_sequence = sequence

    def error(self, error: GatewayError) -> bytes:
        """No message_stop follows, for it is not done."""
        return sse(anthropic_errors.body(error, self._request_id), "error")

    def _parts(self, reply: Reply) -> Iterator[Part]:
        """What one line adds, in the order of the model."""
        if reply.thought:
            self._thoughts += 1
            if self._about.shows_thinking:
                yield "thinking", reply.thought
        if reply.text:
            yield "text", reply.text
        for call in reply.tool_calls:
            if not (self._tool_uses and self._about.one_tool_use):
                self._tool_uses += 1
                yield "tool_use", call

    def _tool_use(self, call: ToolCall, **more: Any) -> dict[str, Any]:
        """With an id of our own: the backends' may repeat."""
        return {"type": "tool_use", "id": f"toolu_{self._hex}{self._tool_uses}", "name": call.function.name, **more}

    def _message(self, **more: Any) -> dict[str, Any]:
        own = {"id": f"msg_{self._hex}", "type": "message", "role": "assistant", "model": self._about.model}
        return own | more

    def _end(self, reply: Reply) -> dict[str, Any]:
        reason = "tool_use" if self._tool_uses else "end_turn"
        if self._stop_sequence is not None:
            reason = "stop_sequence"
        elif reply.done_reason == "length":
            reason = "max_tokens"
        return {"stop_reason": reason, "stop_sequence": self._stop_sequence}

    def _thinking(self, counts: Counts) -> dict[str, Any]:
        return {"output_tokens_details": {"thinking_tokens": min(self._thoughts, counts.completion_tokens)}}


class Streamed(_Answer):
    """Events. One content block is open at a time; what is of another kind closes it and opens the next."""

    def __init__(self, about: About, call_id: str) -> None:
        super().__init__(about, call_id)
        self._begun = False
        self._open = ""
        self._index = -1

    def feed(self, reply: Reply) -> bytes:
        frames = [self._part(*part) for part in self._parts(reply)]
        return self._start() + b"".join(frames)

    def last(self, reply: Reply, counts: Counts) -> bytes:
        frames = self.feed(reply) + self._close()
        used = _usage(counts.prompt_tokens, counts.completion_tokens) | self._thinking(counts)
        return frames + _event("message_delta", delta=self._end(reply), usage=used) + _event("message_stop")

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        used = _usage(self._about.input_tokens, 0)
        return _event(
            "message_start", message=self._message(content=[], stop_reason=None, stop_sequence=None, usage=used)
        )

    def _part(self, kind: str, what: Any) -> bytes:
        if kind == "tool_use":
            arguments = bytes(what.function.arguments).decode()
            return self._opened(kind, self._tool_use(what, input={})) + self._delta(
                "input_json_delta", partial_json=arguments
            )
        opened = b"" if self._open == kind else self._opened(kind, _block(kind, "", ""))
        return opened + self._delta(f"{kind}_delta", **{kind: what})

    def _opened(self, kind: str, block: dict[str, Any]) -> bytes:
        closed = self._close()
        self._open = kind
        self._index += 1
        return closed + _event("content_block_start", index=self._index, content_block=block)

    def _close(self) -> bytes:
        """The end of the open block, if there is one."""
        signed = self._delta("signature_delta", signature=SIGNATURE) if self._open == "thinking" else b""
        stopped = _event("content_block_stop", index=self._index) if self._open else b""
        self._open = ""
        return signed + stopped

    def _delta(self, kind: str, **delta: Any) -> bytes:
        return _event("content_block_delta", index=self._index, delta={"type": kind, **delta})


class Whole(_Answer):
    """One message, also when the backend streams it."""

    def __init__(self, about: About, call_id: str) -> None:
        super().__init__(about, call_id)
        self._blocks: list[tuple[str, list[Any]]] = []
        """kind and pieces of each block"""

    def feed(self, reply: Reply) -> bytes:
        for kind, what in self._parts(reply):
            block = self._tool_use(what, input=what.function.arguments) if kind == "tool_use" else what
            if kind == "tool_use" or not self._blocks or self._blocks[-1][0] != kind:
                self._blocks.append((kind, []))
            self._blocks[-1][1].append(block)
        return b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        self.feed(reply)
        return self._body(reply, counts, self._thinking(counts))

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        """How much of it was thinking, Ollama says nowhere."""
        self.feed(reply)
        return self._body(reply, counts, {} if self._thoughts else self._thinking(counts))

    def _body(self, reply: Reply, counts: Counts, details: dict[str, Any]) -> bytes:
        content = [
            pieces[0] if kind == "tool_use" else _block(kind, "".join(pieces), SIGNATURE)
            for kind, pieces in self._blocks
        ]
        used = _usage(counts.prompt_tokens, counts.completion_tokens) | details
        return msgspec.json.encode(self._message(content=content, **self._end(reply), usage=used))


def _block(kind: str, text: str, signature: str) -> dict[str, Any]:
    block = {"type": kind, kind: text}
    return block | ({"signature": signature} if kind == "thinking" else {"citations": None})


def _usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Nothing is cached across calls as far as Ollama says, so nothing is ever counted as that."""
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": input_tokens, "output_tokens": output_tokens} | cached


def _event(kind: str, **data: Any) -> bytes:
    return sse(msgspec.json.encode({"type": kind, **data}), kind)
