"""Exchanges with backends: connect, first byte, idle and total time apart; what fails is said in the gateway's errors.

An HTTP client of our own, for aiohttp costs twice its time and httpx scans its whole pool on every request (reference:
performance 3a). tests/aiohttp_client.py keeps the same promises over aiohttp, and both are put to the same tests.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from gateway.backends.connection import OK
from gateway.backends.connections import Connections
from gateway.backends.reply import Broken, Reply
from gateway.backends.sending import Carry, Patience, RequestHeads, Sending
from gateway.cut import Cut
from gateway.dialects import ollama_faults
from gateway.errors import BackendFault, BackendTimeout, BackendUnreachable, GatewayError, StreamBroken

ERROR_BYTES_MAX = 64 << 10
WHOLE_BYTES_MAX = 64 << 20
LOOK_S_MIN = 0.001
"""between two looks at a deadline: timers may come a moment too early"""
TAIL_S = 0.5
"""how long the end of a finished body may take before its connection is given up instead of reused"""


class OllamaClient:
    """Sends requests to backends and gives their answers. One for each replica; close it at the end."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._connections = Connections(patience.connect_s)
        self._heads = RequestHeads()

    async def close(self) -> None:
        self._connections.close()
        await asyncio.sleep(0)  # for the loop to close the sockets

    def exchange(self, sending: Sending, carry: Carry) -> "Answer":
        """To be entered: that gives the answer, whose head has arrived. `carry` waits for it.

        Leaving the block early closes the connection, which cancels the work upstream. Raises a `BackendFault`,
        `Unavailable`, or the client's own mistake.
        """
        return Answer(self, sending, carry, self._patience)

    async def post(self, sending: Sending) -> Reply:
        """The head of a success, which is closed by whoever gets it."""
        node = sending.node
        try:
            head = self._heads.of(sending)
            connection = self._connections.idle((node.url, node.ca_pem))
            sending.reused = connection is not None
            reply = (connection or await self._connections.connect(node)).send(head, sending.body)
        except (Broken, OSError, ValueError) as error:
            raise _unreachable(sending) from error
        sending.body = b""  # it may be large, and the answer long
        try:
            sending.on_sent()
            if not reply.has(0):
                await reply.more(0)
            if not reply.status:
                raise _unreachable(sending) from reply.failure
            if reply.status != OK or reply.encoded:
                raise await _refusal(reply)
        except BaseException:
            reply.close()
            raise
        return reply


class Answer:
    """One exchange, from the request to the last byte that is wanted. Entered once; keeps `ports.Exchange`.

    One timer serves all its deadlines: it is not touched when a deadline moves further away, but looks again when its
    time has come.
    """

    __slots__ = (
        "_carry", "_client", "_deadline_s", "_end_s", "_loop", "_patience", "_reply", "_sated", "_sending", "_take",
        "_timer", "_waiting", "_wanted",
    )  # fmt: skip

    def __init__(self, client: OllamaClient, sending: Sending, carry: Carry, patience: Patience) -> None:
        self._client = client
        self._sending = sending
        self._carry = carry
        self._patience = patience
        self._waiting = Cut()
        """for the head: what posts may go on, so it is the wait that ends when its time is over"""
        self._reply: Reply | None = None
        self._wanted = True

    async def __aenter__(self) -> "Answer":
        self._loop = asyncio.get_running_loop()
        self._deadline_s = self._loop.time() + (self._sending.first_byte_s or self._patience.first_byte_s)
        self._timer = self._loop.call_at(self._deadline_s, self._look)
        try:
            with self._waiting:
                self._sending.expire = self._waiting.now
                self._reply = await self._carry(self._client.post(self._sending))
        finally:
            self._sending.expire = None
            if self._reply is None:
                self._timer.cancel()
        if self._reply is None:
            raise BackendTimeout
        del self._sending, self._carry  # a stream may last
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._reply
        self._timer.cancel()
        if self._wanted and error is None:
            self._reply.drain(TAIL_S)
        else:
            self._reply.close()

    async def whole(self) -> bytes:
        reply = self._reply
        assert reply
        if not reply.has(WHOLE_BYTES_MAX + 1):
            await reply.more(WHOLE_BYTES_MAX + 1)
        if reply.unread_bytes > WHOLE_BYTES_MAX:
            raise BackendFault("The model server sent an answer that is too large.")
        if reply.failure:
            raise _told(reply.failure)
        return reply.take()

    async def read(self, take: Callable[[bytes], bool]) -> None:
        reply = self._reply
        assert reply
        self._begin_stream()
        self._take, self._sated = take, False
        await reply.pour(self._piece)
        if reply.failure and not self._sated:
            raise _told(reply.failure)

    def _piece(self, piece: bytes) -> bool:
        if b"\n" in piece:  # bytes that never make a line are silence too
            self._deadline_s = min(self._loop.time() + self._patience.idle_s, self._end_s)
        self._sated = self._take(piece)
        return self._sated

    def leave(self) -> None:
        self._wanted = False

    def _begin_stream(self) -> None:
        now_s = self._loop.time()
        self._end_s = now_s + self._patience.total_s
        self._deadline_s = min(now_s + self._patience.idle_s, self._end_s)
        self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline_s, self._look)

    def _look(self) -> None:
        if self._loop.time() < self._deadline_s:
            self._timer = self._loop.call_at(max(self._deadline_s, self._loop.time() + LOOK_S_MIN), self._look)
        elif self._reply:
            self._reply.fail(BackendTimeout())
        else:
            self._loop.call_soon(self._waiting.now)  # a head that has come in time goes before


def _unreachable(sending: Sending) -> BackendUnreachable:
    """That a node closed a connection which was kept is nobody's fault."""
    return BackendUnreachable(blames="" if sending.reused else None)


async def _refusal(reply: Reply) -> GatewayError:
    """What a head other than a plain success means."""
    if reply.status == OK:
        return BackendFault("The model server sent an encoded answer, which was not asked for.")
    if not reply.has(ERROR_BYTES_MAX):
        await reply.more(ERROR_BYTES_MAX)
    if reply.failure:
        return _told(reply.failure)
    return ollama_faults.fault(reply.status, reply.take()[:ERROR_BYTES_MAX])


def _told(failure: Exception) -> GatewayError:
    """Why a body has ended before its end."""
    if isinstance(failure, GatewayError):
        return failure
    broken = StreamBroken()
    broken.__cause__ = failure
    return broken
