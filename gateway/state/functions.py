"""The Redis functions: assembled from `lua/`, loaded where they are missing, called by name.

Functions survive restarts and fit an ACL. The library's name carries its version, so replicas of two versions can run
beside each other.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ResponseError

from gateway.errors import LimitsUnavailable

LIBRARY = "llmgw1"
VERBS = ("admit", "inspect", "publish", "reap", "renew", "settle", "void")


class Calls(Protocol):
    """Whatever can send one command to Redis and return its reply."""

    async def call(self, *command: Any) -> Any: ...


def source() -> str:
    """The whole library, as FUNCTION LOAD takes it."""
    folder = files("gateway.state") / "lua"
    parts = [(folder / f"{name}.lua").read_text("utf-8") for name in ("prelude", *VERBS)]
    return f"#!lua name={LIBRARY}\n" + "\n".join(parts)


class Functions:
    """Calls functions by verb; loads the library when Redis does not have it."""

    def __init__(self, redis: Calls, library: str | None = None) -> None:
        self._redis = redis
        self._source = library or source()

    async def load(self) -> None:
        """Install the library. Loading it again changes nothing."""
        await self._redis.call("FUNCTION", "LOAD", "REPLACE", self._source)

    async def call(self, verb: str, keys: list[str], args: Sequence[str | int | bytes]) -> Any:
        """The function's reply.

        Raises `LimitsUnavailable` when Redis is away, loading, full, read-only or otherwise unable: never a verdict.
        """
        command = ("FCALL", f"{LIBRARY}_{verb}", len(keys), *keys, *args)
        try:
            try:
                return await self._redis.call(*command)
            except ResponseError as error:
                if not _is_missing(error):
                    raise
                await self.load()
                return await self._redis.call(*command)
        except ResponseError as error:
            raise LimitsUnavailable from error


def _is_missing(error: ResponseError) -> bool:
    return isinstance(error, NoScriptError) or "Function not found" in str(error)
