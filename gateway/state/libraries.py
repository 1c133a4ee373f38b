"""Both libraries of functions as `llm-gateway migrate` puts them into Redis, and takes those of other versions out.

A worker does it again when Redis has lost them: replicas may not where Redis has the access list of `deploy/redis`.
"""

from typing import Any

from redis.exceptions import ResponseError

from gateway.state.functions import Calls, Functions, fleet_source, source

PREFIX = "llmgw_"
NAME_FIELD = "library_name"
GONE = "Library not found"


class Libraries:
    """Those of this version. Every method raises `LimitsUnavailable` or, with Redis' objection, `ResponseError`."""

    def __init__(self, redis: Calls) -> None:
        self._redis = redis
        self._functions = (Functions(redis, source()), Functions(redis, fleet_source()))

    async def load(self) -> list[str]:
        """The names of the libraries. What is there already stays as it is."""
        for functions in self._functions:
            await functions.load()
        return [functions.library for functions in self._functions]

    async def restore(self) -> int:
        """Load what is missing. How many that were."""
        missing = [one for one in self._functions if not await self._listed(one.library)]
        for functions in missing:
            await functions.load()
        return len(missing)

    async def prune(self) -> list[str]:
        """The names of those that were removed. A replica that still calls them has to load them again."""
        listed = await self._listed(f"{PREFIX}*")
        others = sorted({_name(one) for one in listed} - {functions.library for functions in self._functions})
        for name in others:
            try:
                await self._redis.call("FUNCTION", "DELETE", name)
            except ResponseError as error:
                if GONE not in str(error):  # another who prunes, or a node of a cluster that never had it
                    raise
        return others

    async def _listed(self, pattern: str) -> list[Any]:
        listed: list[Any] = await self._redis.call("FUNCTION", "LIST", "LIBRARYNAME", pattern)
        return listed


def _name(listed: Any) -> str:
    """Of one library: Redis lists fields and values in turn, or as a mapping to who speaks its newer protocol."""
    pairs = listed.items() if isinstance(listed, dict) else zip(listed[::2], listed[1::2], strict=True)
    return next(_text(value) for field, value in pairs if _text(field) == NAME_FIELD)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
