"""A pipe made of redis-py's pipelines: the oracle for what `gateway.state.pipe.Pipe` does by itself."""

import asyncio
from collections import deque
from typing import Any

from redis.exceptions import ConnectionError, ResponseError

from gateway.errors import LimitsUnavailable
from gateway.state.client import connect

BATCH_COMMANDS_MAX = 512
WAITING_COMMANDS_MAX = 20_000

Command = tuple[Any, ...]


class RedisPyPipe:
    """Sends commands in batches, one at a time: `start`, then `call`, then `close`."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        self._redis = connect(url, timeout_ms)
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
