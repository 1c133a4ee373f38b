"""Stop sequences that the gateway looks for itself, because Ollama cannot say which one it hit, or that it hit any."""

from typing import Protocol

from msgspec.structs import replace

from gateway.core.tally import Counts
from gateway.dialects import asked
from gateway.dialects.ollama import Message, Reply
from gateway.errors import GatewayError


class Stoppable(asked.Renderer, Protocol):
    """A renderer that can say which sequence ended the answer."""

    def stopped_at(self, sequence: str) -> None:
        """Called at most once, before the text in front of the sequence is given."""


class Search:
    """Finds the sequence that is complete first, however the text was cut. Keeps back what may become one."""

    def __init__(self, sequences: list[str]) -> None:
        self._sequences = sequences
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """The text that is certain now, and the sequence that was found after it, or ""."""
        text = self._held + text
        if found := self._first(text):
            self._held = ""
            return text[: text.find(found)], found
        certain = len(text) - max(_overlap(text, sequence) for sequence in self._sequences)
        self._held = text[certain:]
        return text[:certain], ""

    def rest(self) -> str:
        """What was kept back, once it is known that no text follows."""
        text, self._held = self._held, ""
        return text

    def _first(self, text: str) -> str:
        """The sequence that ends first; of those that end at the same place the longest."""
        ends = [(at + len(one), at, one) for one in self._sequences if (at := text.find(one)) >= 0]
        return min(ends)[2] if ends else ""


class Stopping(asked.Renderer):
    """Around the renderer of a call with stop sequences: ends its text, and the call, in front of the first of them.

    Only text is searched, and only text that belongs together: thoughts and tool calls come between two texts.
    """

    def __init__(self, inner: Stoppable, sequences: list[str]) -> None:
        self._inner = inner
        self._search = Search(sequences)
        self.content_type, self.beat = inner.content_type, inner.beat

    def feed(self, reply: Reply) -> bytes:
        frames = self._before(reply)
        return frames + self._inner.feed(self._cut(reply, more=True))

    def last(self, reply: Reply, counts: Counts) -> bytes:
        frames = self._before(reply)
        return frames + self._inner.last(self._cut(reply, more=False), counts)

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        return self._inner.whole(self._cut(reply, more=False), counts)

    def error(self, error: GatewayError) -> bytes:
        return self._inner.error(error)

    def _before(self, reply: Reply) -> bytes:
        """What was kept back, when the thoughts of this line come after it and so no sequence can."""
        rest = self._search.rest() if reply.thought else ""
        return self._inner.feed(Reply(message=Message(content=rest))) if rest else b""

    def _cut(self, reply: Reply, *, more: bool) -> Reply:
        """The line with the text that is certain; without what follows a sequence. `more`: the text may go on."""
        if self.ended:
            return replace(reply, message=Message())
        text, found = self._search.feed(reply.text)
        if found:
            self.ended = True
            self._inner.stopped_at(found)
            return replace(reply, message=Message(content=text, thinking=reply.thought))
        if reply.tool_calls or not more:
            text += self._search.rest()
        return replace(reply, message=Message(content=text, thinking=reply.thought, tool_calls=reply.tool_calls))


def _overlap(text: str, sequence: str) -> int:
    """How many characters at the end of the text may be the start of the sequence."""
    longest = min(len(sequence) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(sequence[:size])), 0)
