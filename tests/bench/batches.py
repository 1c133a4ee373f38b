"""Redis commands as a busy replica sends them: many in one pipeline."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import redis.asyncio


class Batches:
    """Keeps `gateway.state.functions.Calls`: what is asked in one turn of the loop goes in pipelines of `at_once`."""

    def __init__(self, client: redis.asyncio.Redis, at_once: int) -> None:
        self._client = client
        self._at_once = at_once
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []

    def call(self, *command: Any) -> "asyncio.Future[Any]":
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        return answer

    async def all(self, asking: list[Awaitable[bool]]) -> list[bool]:
        """What all of these come to; what they ask in the course of it is sent."""
        everything = asyncio.gather(*asking)
        while not everything.done():
            await asyncio.sleep(0)
            while self._waiting:
                await self._send()
        return list(await everything)

    async def _send(self) -> None:
        batch, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
        pipeline = self._client.pipeline(transaction=False)
        for command, _ in batch:
            pipeline.execute_command(*command)
        replies = await pipeline.execute(raise_on_error=False)
        for (_, answer), reply in zip(batch, replies, strict=True):
            if isinstance(reply, Exception):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)
