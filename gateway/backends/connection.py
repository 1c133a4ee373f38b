"""One connection to a node: a request goes out, what is answered to it is parsed as it arrives.

httptools (llhttp) reads HTTP; here is what it leaves to its caller: what a body without a length ends with, what comes
unasked, and how much of anything may come. Knows no time: who waits here says for how long.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.backends.reply import Broken, Reply

HEAD_BYTES_MAX = 64 << 10
"""names and values of headers, those of interim answers and trailers included"""
HEADERS_MAX = 256
QUIET_BYTES_MAX = 64 << 10
"""that come on end without any of the body among them: heads, sizes of chunks, trailers; one read may come on top"""
TOGETHER_BYTES_MAX = 64 << 10
"""a body up to that is copied behind its head"""
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"content-encoding"))
_PLAIN = frozenset((b"", b"identity"))
OK = 200
_STATUS_MIN = 100
_SWITCHING = 101
_BODILESS = frozenset((204, 304))


class Connection(asyncio.Protocol):
    """To an `origin`. `on_free` hears when it can serve again, `on_lost` once, when it never will."""

    __slots__ = (
        "_head_bytes", "_headers", "_loop", "_on_free", "_on_lost", "_parser", "_paused", "_quiet_bytes", "_reply",
        "_reusable", "_sized", "_transport", "origin",
    )  # fmt: skip

    def __init__(
        self,
        origin: tuple[str, str],
        on_free: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.origin = origin
        self._on_free = on_free
        self._on_lost = on_lost
        self._loop = loop
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._paused = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def send(self, head: bytes, body: bytes) -> Reply:
        """The reply to a request, whose `head` lacks nothing. Raises `Broken`."""
        if self._transport is None or self._reply is not None:
            raise Broken("it serves no more")
        self._reply = reply = Reply(self, self._loop)
        self._head_bytes = self._headers = self._quiet_bytes = 0
        self._sized = self._reusable = False
        if len(body) <= TOGETHER_BYTES_MAX:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return reply

    def close(self) -> None:
        """At once. Who reads from it is not told."""
        self._reply = None
        self._gone()

    def lose(self, error: Exception | None) -> None:
        """It is no more. Who reads from it is told; without an `error` the node has ended it."""
        reply, self._reply = self._reply, None
        self._gone()
        if reply:
            reply.lost(error)

    def resume(self) -> None:
        if self._paused and self._transport:
            self._paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reply, parser = self._reply, self._parser
        if reply is None or parser is None:
            self.close()  # nothing was asked
            return
        self._quiet_bytes += len(data)
        try:
            parser.feed_data(data)
            if self._quiet_bytes > QUIET_BYTES_MAX and not reply.complete:
                raise Broken("too much that is no body")
        except HttpParserUpgrade:
            self._reusable = False
        except (HttpParserError, Broken) as error:
            self._reusable = False
            if not reply.complete:
                reply.fail(Broken(f"not HTTP: {error}"))
                return
        if reply.complete:
            self._free(reply)
        elif reply.progressed() and self._transport and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self.lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(exc)

    def on_message_begin(self) -> None:
        if self._reply is None or self._reply.complete:
            raise Broken("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._head_bytes += len(name) + len(value)
        if self._headers > HEADERS_MAX or self._head_bytes > HEAD_BYTES_MAX:
            raise Broken("too many headers")
        name, reply = name.lower(), self._reply
        if name not in _FRAMING or reply is None or reply.status:  # a trailer changes nothing any more
            return
        if name == b"content-length":
            self._sized = True
            return
        value = value.strip(b" \t").lower()
        if name == b"content-encoding":
            reply.encoded = reply.encoded or value not in _PLAIN
        else:
            self._sized = value == b"chunked"
            reply.encoded = reply.encoded or not self._sized

    def on_headers_complete(self) -> None:
        reply, parser = self._reply, self._parser
        assert reply and parser
        status = parser.get_status_code()
        if status < _STATUS_MIN:
            raise Broken("no status")
        if status < OK and status != _SWITCHING:  # an interim answer: the one that counts comes after it
            self._sized = reply.encoded = False
            return
        reply.status = status
        reply.ends_with_connection = not self._sized and status not in _BODILESS

    def on_body(self, body: bytes) -> None:
        reply = self._reply
        if reply is None or not reply.status:
            raise Broken("a body without a head")
        self._quiet_bytes = 0
        reply.arrived(body)

    def on_message_complete(self) -> None:
        reply, parser = self._reply, self._parser
        if reply and parser and reply.status:
            reply.complete = True
            self._reusable = parser.should_keep_alive()  # only now does it know

    def _free(self, reply: Reply) -> None:
        """The answer was all there; so is the connection, unless something of the request is still unsent."""
        transport, self._reply = self._transport, None
        if self._reusable and transport and not transport.get_write_buffer_size() and not transport.is_closing():
            self.resume()
            self._on_free(self)
        else:
            self._gone()
        reply.ended()

    def _gone(self) -> None:
        transport, self._transport = self._transport, None
        self._parser = None  # they hold each other
        if transport:
            transport.abort()
            self._on_lost(self)
