"""The sending of the fake Ollama's answers, as well or as badly as its behaviour says."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec import Struct

from gateway.dev.fake_answers import MIDSTREAM_ERROR
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_generation import Generation, error_body
from gateway.dev.fake_http import JSON, NDJSON, Wire, chunked, fixed

ENDLESS_BYTES_MAX = 2**31
ENDLESS_CHUNK_BYTES = 65_536
GARBAGE = b'{"model":"\xff\xfe\x00 this is no JSON \xf0\x28\n'


class Whole(Struct, kw_only=True):
    """An answer that is sent in one piece, or in the chunks given."""

    status: int = 200
    content_type: str = JSON
    body: bytes = b""
    chunks: list[bytes] | None = None
    counted: dict[str, Any] | None = None
    """the answer as an object, when it tells how long it took"""


class Dropped(Exception):
    """The fake has reset the connection on purpose."""


class Sender:
    """Sends one answer as a behaviour wants it. `sent` is told the tokens of every chunk that has left."""

    def __init__(self, wire: Wire, behaviour: Behaviour, sent: Callable[[int], None]) -> None:
        self._wire = wire
        self._behaviour = behaviour
        self._sent = sent

    async def before(self) -> None:
        """What happens before the first byte."""
        await asyncio.sleep(self._behaviour.first_byte_ms / 1000)
        if self._behaviour.hang:
            await _for_ever()
        if self._behaviour.drop_after_chunks == 0:
            self.drop()

    async def whole(self, answer: Whole, *, headers_only: bool = False, tokens: int = 0) -> None:
        """A plain answer, a recorded one, or a generation with stream:false."""
        if answer.chunks is not None:
            self._head(answer.status, chunked(self._behaviour.content_type or answer.content_type))
            await self._chunks([(chunk, 0) for chunk in answer.chunks])
            return
        body = GARBAGE if self._behaviour.garbage else answer.body
        self._head(answer.status, fixed(self._behaviour.content_type or answer.content_type, len(body)))
        if headers_only:
            await self._wire.raw(b"", last=True)
        elif self._behaviour.drop_after_chunks is not None:
            await self._wire.raw(body[: len(body) // 2])
            self.drop()
        elif self._behaviour.trickle:
            for number, byte in enumerate(body, 1):
                await self._wire.raw(bytes([byte]), last=number == len(body))
                await asyncio.sleep(self._behaviour.trickle_ms / 1000)
        else:
            await self._wire.raw(body, last=True)
        self._sent(tokens)

    async def generation(self, answer: Generation) -> None:
        self._spoil(answer)
        kind = NDJSON if answer.streamed else JSON
        if self._behaviour.endless_line_after_tokens is not None:
            self._head(200, chunked(self._behaviour.content_type or kind))
            await self._endless(answer)
        if answer.streamed:
            self._head(200, chunked(self._behaviour.content_type or kind))
            lines = answer.lines()
            await self._chunks([*lines[:1], (GARBAGE, 0), *lines[1:]] if self._behaviour.garbage else lines)
            return
        if self._behaviour.hang_after_tokens is not None:
            await _for_ever()
        await asyncio.sleep(answer.count / self._behaviour.tokens_per_s if self._behaviour.tokens_per_s else 0)
        if answer.error is not None:
            await self.whole(Whole(status=500, body=error_body(answer.error)))
        else:
            await self.whole(Whole(body=answer.whole()), tokens=answer.count)

    def _spoil(self, answer: Generation) -> None:
        if self._behaviour.error_after_tokens is not None:
            answer.cut(self._behaviour.error_after_tokens)
            answer.error = answer.error or MIDSTREAM_ERROR
        answer.ends = answer.ends and not self._behaviour.truncate
        answer.tool_calls_apart = self._behaviour.tool_calls_apart
        answer.counts = self._behaviour.counts

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._wire.head(status, [*headers, *self._behaviour.headers])

    async def _endless(self, answer: Generation) -> None:
        """Good lines, then one that does not end; at last the connection does."""
        for line, tokens in answer.lines()[: self._behaviour.endless_line_after_tokens] if answer.streamed else []:
            await self._wire.chunk(line)
            self._sent(tokens)
        await self._wire.chunk(answer.endless())
        for _ in range(ENDLESS_BYTES_MAX // ENDLESS_CHUNK_BYTES):
            await self._wire.chunk(b"a" * ENDLESS_CHUNK_BYTES)
            self._sent(0)
            await asyncio.sleep(0)  # a client that reads as fast as this writes must not starve the other calls
        self.drop()

    async def _chunks(self, chunks: list[tuple[bytes, int]]) -> None:
        """Each in a chunk of its own, at the pace wanted; the end of the body leaves with the last."""
        clock = asyncio.get_running_loop().time
        began, tokens, rate = clock(), 0, self._behaviour.tokens_per_s
        for number, (data, in_it) in enumerate(chunks, 1):
            if self._behaviour.hang_after_tokens is not None and tokens >= self._behaviour.hang_after_tokens:
                await _for_ever()
            if rate and in_it:
                await asyncio.sleep(began + tokens / rate - clock())
            tokens += in_it
            await self._chunk(data, last=number == len(chunks))
            self._sent(in_it)
            if number == self._behaviour.drop_after_chunks:
                self.drop()
        if not chunks:
            await self._wire.end()

    async def _chunk(self, data: bytes, *, last: bool) -> None:
        if not self._behaviour.trickle:
            last = last and self._behaviour.drop_after_chunks is None
            await self._wire.chunk(data, last=last)
            return
        for byte in data:
            await self._wire.chunk(bytes([byte]))
            await asyncio.sleep(self._behaviour.trickle_ms / 1000)
        if last:
            await self._wire.end()

    def drop(self) -> NoReturn:
        """Raises `Dropped`, always."""
        self._wire.reset()
        raise Dropped


async def _for_ever() -> None:
    await asyncio.Event().wait()
