"""Redis Cluster for the request path: each command goes, through a `Pipe` of its own, to the node that has its keys.

redis-py's cluster client asks the server for the keys of each FCALL first, and waits and retries by itself. Here a call
costs what it costs on one server: one round trip in a shared pipeline, one deadline, no retry but that of `Pipe`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from gateway.errors import LimitsUnavailable
from gateway.state.pipe import Pipe
from gateway.state.slots import Address, Slots, is_cluster, node_url

MOVES_MAX = 3
"""how often one command follows its keys to another node"""
NODES_MAX = 1_000
EVERYWHERE = ("FUNCTION", "INFO")
"""commands for every node that has keys"""
IN_MOTION = (AskError, TryAgainError, ClusterDownError)
"""what a node says of keys that are just being moved, or that no node has: it passes"""


def pipe_to(url: str, timeout_ms: int) -> "Pipe | ClusterPipe":
    """What sends commands to the Redis, or the cluster, at `url`. Connects to nothing yet."""
    return ClusterPipe(url, timeout_ms) if is_cluster(url) else Pipe(url, timeout_ms)


class ClusterPipe:
    """What `Pipe` is for one server, for a cluster: `start`, then `call`, then `close`."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        self._url = url
        self._timeout_ms = timeout_ms
        self._slots = Slots(url, timeout_ms)
        self._pipes: dict[Address, Pipe] = {}

    def start(self) -> None:
        self._slots.look_again()

    async def close(self) -> None:
        await self._slots.close()
        await asyncio.gather(*(pipe.close() for pipe in self._pipes.values()))

    async def call(self, *command: Any) -> Any:
        """As `Pipe.call`. Of a command for every node, one node's reply; INFO's `run_id` is that of all of them."""
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await self._slots.known()
                return await (self._everywhere(command) if command[0] in EVERYWHERE else self._follow(command))
        except (TimeoutError, LimitsUnavailable) as error:
            self._slots.look_again()  # perhaps another node has taken over
            raise LimitsUnavailable from error

    async def _follow(self, command: Sequence[Any]) -> Any:
        """The reply of the node that has the command's keys, which may have moved since we looked."""
        node = self._slots.owner(_key_of(command))
        for _ in range(MOVES_MAX):
            try:
                return await self._pipe(node).call(*command)
            except MovedError as moved:
                self._slots.look_again()
                node = (moved.host or node[0], moved.port)
            except IN_MOTION as error:
                raise LimitsUnavailable from error
        raise LimitsUnavailable

    async def _everywhere(self, command: Sequence[Any]) -> Any:
        """A node that is away keeps the others from nothing, but what INFO has to tell of it nobody else can."""
        calls = (self._pipe(node).call(*command) for node in self._slots.nodes)
        replies = await asyncio.gather(*calls, return_exceptions=True)
        answers = [reply for reply in replies if not isinstance(reply, BaseException)]
        for error in replies:
            away = isinstance(error, LimitsUnavailable)
            if isinstance(error, BaseException) and not (away and answers and command[0] != "INFO"):
                raise error
        if command[0] == "INFO":
            return {**answers[-1], "run_id": " ".join(str(answer["run_id"]) for answer in answers)}
        return min(answers, key=len)  # of lists of functions that of a node which lacks some, if there is one

    def _pipe(self, node: Address) -> Pipe:
        """The pipe to a node; one that is idle costs a connection."""
        pipe = self._pipes.get(node)
        if pipe is None:
            if len(self._pipes) >= NODES_MAX:
                raise LimitsUnavailable
            pipe = self._pipes[node] = Pipe(node_url(self._url, node), self._timeout_ms)
            pipe.start()
        return pipe


def _key_of(command: Sequence[Any]) -> Any:
    """The first key, which says where all of them are; None for a command that has none."""
    if command[0] == "FCALL":
        return command[3] if int(command[2]) else None
    if command[0] == "MEMORY":
        return command[2]
    return command[1] if len(command) > 1 else None
