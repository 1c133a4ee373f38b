"""Which team each key is in: a guess that names the keys of a call, never a decision.

A function may touch only keys that it is given (Redis Cluster), and which team's those are Redis alone knows. So a
replica remembers what it was told last; a function that is given another team's names says which are right.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.keys import shard_of
from gateway.errors import LimitsUnavailable, TeamElsewhere
from gateway.state.keyspace import TeamNames, of_key

REMEMBERED_MAX = 100_000
TRIES_MAX = 3
OTHER_TEAM = -1
"""first in a function's reply: the key, or its call, is in the team that follows"""


class Teams:
    """The guesses of one replica."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._of: dict[str, str] = {}

    def of(self, key_id: str) -> str:
        """The team as it was told last; "": none, or nobody has asked."""
        return self._of.get(key_id, "")

    async def ask(self, key_id: str, call: Callable[[list[str], str], Awaitable[Any]]) -> list[Any]:
        """The reply of `call(owners' names, team)`, made with the right team.

        Raises `TeamElsewhere` when the key's team is in another shard: SHARDS was raised since the key joined it.
        """
        names = of_key(key_id, self._shards).all()
        for _ in range(TRIES_MAX):
            team = self.of(key_id)
            reply: list[Any] = await call(names + (TeamNames(team, self._shards).all() if team else []), team)
            if reply[0] != OTHER_TEAM:
                return reply
            self._remember(key_id, reply[1].decode())
        raise LimitsUnavailable

    def _remember(self, key_id: str, team: str) -> None:
        self._of.pop(key_id, None)
        if not team:
            return
        if shard_of(team, self._shards) != shard_of(key_id, self._shards):
            raise TeamElsewhere
        if len(self._of) >= REMEMBERED_MAX:
            del self._of[next(iter(self._of))]  # the oldest; it is asked for once more
        self._of[key_id] = team
