"""The Redis functions: assembled from `lua/`, loaded where they are missing, called by name.

Functions survive restarts and fit an ACL. Because they survive, the library's name carries a digest of its source: a
changed source is another library, and replicas of two versions run beside each other, each on the functions it was
made for.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from gateway.errors import LimitsUnavailable

NAME = "LIBRARY"
"""stands in the source for the library's name"""
DIGEST_CHARS = 12
SHARED = ("clock", "bucket", "owner", "price", "output", "verdict", "lease", "backlog")
"""parts of the library that define no function of Redis' own, in the order in which they build on each other"""
VERBS = (
    "admit",
    "blame",
    "bury",
    "explain",
    "inspect",
    "inspect_team",
    "publish",
    "reap",
    "renew",
    "replay",
    "reprice",
    "settle",
    "void",
)


FLEET_SHARED = ("clock", "fleet/slots", "fleet/line", "fleet/ask")
FLEET_VERBS = ("foresee", "hold", "judge", "leave", "loaded", "place", "register", "saw", "sync")
"""the fleet's functions are a library of their own, whose keys are all in one hash slot"""


LOAD_THEM = "Redis lacks this version's functions, and our user may not load them: run `llm-gateway migrate`"
Refused = Callable[[str, str], object]
"""hears why Redis refuses, in a word, and what to do where we know that"""


class Calls(Protocol):
    """Whatever can send one command to Redis and return its reply."""

    def call(self, *command: Any) -> Awaitable[Any]: ...


def source() -> str:
    """The library of limits as FUNCTION LOAD takes it, but for its name."""
    return _assembled((*SHARED, *VERBS))


def fleet_source() -> str:
    """The library of the fleet, likewise."""
    return _assembled((*FLEET_SHARED, *(f"fleet/{verb}" for verb in FLEET_VERBS)))


@cache
def _assembled(names: tuple[str, ...]) -> str:
    folder = files("gateway.state") / "lua"
    parts = [(folder / f"{name}.lua").read_text("utf-8") for name in names]
    return f"#!lua name={NAME}\n" + "\n".join(parts)


class Functions:
    """Calls functions by verb; loads the library when Redis does not have it, and lets it be done."""

    def __init__(self, redis: Calls, text: str | None = None, refused: Refused | None = None) -> None:
        self._redis = redis
        self._refused = refused
        self._may_load = True
        """until Redis forbids it: then nobody sends the source with every call while somebody else is to load it"""
        text = text or source()
        self.library = f"llmgw_{sha256(text.encode()).hexdigest()[:DIGEST_CHARS]}"
        self._source = text.replace(NAME, self.library)
        self._names: dict[str, str] = {}
        """of functions, by verb; as many as there are"""

    async def load(self) -> None:
        """Install the library. Loading it again changes nothing."""
        await self._redis.call("FUNCTION", "LOAD", "REPLACE", self._source)

    async def call(self, verb: str, keys: list[str], args: Sequence[str | int | bytes]) -> Any:
        """The function's reply.

        Raises `LimitsUnavailable` when Redis is away, loading, full, read-only or otherwise unable: never a verdict.
        """
        command = ("FCALL", self._names.get(verb) or self._name(verb), len(keys), *keys, *args)
        try:
            return await self._redis.call(*command)
        except ResponseError as error:
            return await self._call_refused(command, error)

    async def _call_refused(self, command: tuple[Any, ...], error: ResponseError) -> Any:
        try:
            if not is_missing(error):
                raise error
            await self._load_unless_forbidden()
            return await self._redis.call(*command)
        except ResponseError as final:
            if self._refused:
                self._refused(type(final).__name__, "")
            raise LimitsUnavailable from final

    def _name(self, verb: str) -> str:
        name = self._names[verb] = f"{self.library}_{verb}"
        return name

    async def _load_unless_forbidden(self) -> None:
        try:
            if self._may_load:
                await self.load()
                return
        except NoPermissionError:
            self._may_load = False
        if self._refused:
            self._refused("functions_missing", LOAD_THEM)
        raise LimitsUnavailable


def is_missing(error: ResponseError) -> bool:
    """Whether Redis lacks the library, as when it was emptied: then it is loaded."""
    return isinstance(error, NoScriptError) or "Function not found" in str(error)
