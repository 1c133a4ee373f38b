"""Redis for the request path: commands of one loop turn leave in one pipeline, each with its own deadline.

redis-py's defaults retry ten times, so a lost reply would be charged twice and one call could block for a minute
(reference: reliability finding 1). Here nothing is retried below `Functions`, a caller waits `timeout_ms` at most, and
a caller that left never gets, or causes, another one's reply.
"""

import asyncio
from collections import deque
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ResponseError

from gateway.errors import LimitsUnavailable

BATCH_COMMANDS_MAX = 512
WAITING_COMMANDS_MAX = 20_000
CONNECTIONS_MAX = 4

Command = tuple[Any, ...]


def connect(url: str, timeout_ms: int) -> Redis:
    """A client that answers in bytes, never retries, and gives up on a silent server after `timeout_ms`."""
    seconds = timeout_ms / 1000
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


class Pipe:
    """Sends commands in batches, one at a time: `start`, then `call`, then `close`.

    Whatever is sent through it must be safe to run twice, as all functions of `lua/` are; `blame` may count one failure
    too many.
    """

    def __init__(self, redis: Redis, timeout_ms: int) -> None:
        self._redis = redis
        self._timeout_s = timeout_ms / 1000
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._sender = asyncio.create_task(self._send_batches(), name="redis-pipe")

    async def close(self) -> None:
        if self._sender:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        await self._redis.aclose()

    async def call(self, *command: Any) -> Any:
        """The reply to one command.

        Raises `ResponseError` when Redis refused it, `LimitsUnavailable` when no reply came in time; then it is
        unknown whether the command ran.
        """
        if len(self._waiting) >= WAITING_COMMANDS_MAX:
            raise LimitsUnavailable
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, reply))
        self._wake.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await reply
        except TimeoutError:
            raise LimitsUnavailable from None

    async def _send_batches(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                replies = await self._replies([command for command, _ in batch])
                for (_, future), answer in zip(batch, replies, strict=True):
                    _resolve(future, answer)

    def _take(self) -> list[tuple[Command, "asyncio.Future[Any]"]]:
        """The next batch, without those whose caller has left or given up."""
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        while self._waiting and len(batch) < BATCH_COMMANDS_MAX:
            command, future = self._waiting.popleft()
            if not future.done():
                batch.append((command, future))
        return batch

    async def _replies(self, commands: list[Command]) -> list[Any]:
        """A reply or an exception for each command. Sent once more when the connection had been closed meanwhile."""
        try:
            try:
                return await self._execute(commands)
            except ConnectionError:
                return await self._execute(commands)
        except Exception:  # Redis is away, or a command cannot be packed: in no case may the sender end
            return [LimitsUnavailable() for _ in commands]

    async def _execute(self, commands: list[Command]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _resolve(future: "asyncio.Future[Any]", answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, ResponseError | LimitsUnavailable):
        future.set_exception(answer)
    elif isinstance(answer, Exception):
        future.set_exception(LimitsUnavailable())
    else:
        future.set_result(answer)
