"""Messages to this replica: one of its waiting calls has a slot. Lost ones cost a second, for every call asks again."""

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.core.placing import Placed
from gateway.state import keyspace
from gateway.state.placement import woken
from gateway.state.slots import is_cluster, node_urls

REST_S = 0.5
"""before listening is begun again"""
LISTEN_S = 10.0
"""at a time; a silent server is asked whether it is there"""


class Wakes:
    """`on_woken` hears (attempt, slot). In a cluster any node tells: messages go to all of them."""

    def __init__(self, url: str, replica: str, on_woken: Callable[[str, Placed], None]) -> None:
        self._urls = node_urls(url) if is_cluster(url) else [url]
        self._channel = keyspace.woken(replica)
        self._on_woken = on_woken

    async def run(self) -> None:
        """Listen, for ever, to whichever node answers."""
        turn = 0
        while True:
            try:
                await self._listen(self._urls[turn % len(self._urls)])
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(REST_S)
            turn += 1

    async def _listen(self, url: str) -> None:
        async with (
            Redis.from_url(url, decode_responses=True, health_check_interval=LISTEN_S) as redis,
            redis.pubsub() as pubsub,
        ):
            await pubsub.subscribe(self._channel)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=LISTEN_S)
                if message:
                    self._on_woken(*woken(message["data"]))
