"""The fleet's functions as a port: slots, the waiting line, what replicas tell each other of nodes."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core import breaker
from gateway.core.breaker import Breaker
from gateway.core.fleet import Registry
from gateway.core.placing import Ask, Freed, Full, Left, News, Placed, Waiting
from gateway.core.routing import Rates
from gateway.state import keyspace
from gateway.state.functions import Functions

HELD_AT_ONCE_MAX = 512
"""slots renewed, or given back, in one call"""
_registry = msgspec.json.Decoder(Registry)


class RedisPlacement:
    """Keeps `ports.Placement`. `functions` are the fleet's. Every method raises `LimitsUnavailable`."""

    def __init__(self, functions: Functions, replica: str) -> None:
        self._functions = functions
        self._keys = keyspace.fleet()
        self._channel = keyspace.woken(replica)

    async def place(self, ask: Ask, *, depth_max: int, waits: bool) -> Placed | Waiting | Full:
        """A slot, a place in the line (or what it would be, if the call does not wait), or no room in it."""
        return _verdict(await self._call("place", self._asked(ask, depth_max, waits=waits)))

    async def foresee(self, ask: Ask, *, depth_max: int) -> tuple[Placed | Waiting | Full, str]:
        """What `place` would say, and which backend served the beginning of the prompt last. Changes nothing."""
        *reply, affinity = await self._call("foresee", self._asked(ask, depth_max, waits=False))
        return _verdict(reply), affinity.decode()

    async def leave(self, left: Sequence[Left]) -> list[Freed | None]:
        """Give slots back, or places in the line; None for an attempt that held no slot. HELD_AT_ONCE_MAX at most."""
        args: list[str | int | bytes] = []
        for one in left:
            figures = (one.prompt_tokens, one.prompt_ms, one.output_tokens, one.output_ms, one.load_ms)
            args += [one.id, one.tokens, *map(str, figures), int(one.good)]
        now_ms, *told = await self._call("leave", args)
        return [_freed(now_ms, *one) if one else None for one in told]

    async def hold(self, held: Iterable[tuple[str, str, str, str, bool]]) -> int:
        """Renew slots: (id, backend, model, key id, whether it loads the model). How many Redis did not know any more,
        and has taken again."""
        args: list[str | int | bytes] = []
        for *texts, loads in held:
            args += [*texts, int(loads)]
        again: int = await self._call("hold", args)
        return again

    async def loaded(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Backends have models that were being loaded there. How many loads have ended by that."""
        ended: int = await self._call("loaded", [text for pair in pairs for text in pair])
        return ended

    async def sync(self, version: int, revision: int, *, rates: bool, turns: dict[str, int]) -> News:
        """What is new. `turns`: things to do, with the ms until each is to be done again; News has those that fell to
        this replica."""
        pairs: list[str | int | bytes] = []
        for what, again_ms in turns.items():
            pairs += [what, again_ms]
        reply = await self._call("sync", [version, revision, int(rates), *pairs])
        now_ms, its_version, document, its_revision, told, busy, loads, depths, learned, mine = reply
        return News(
            now_ms=now_ms,
            version=its_version,
            registry=_registry.decode(document) if document else None,
            revision=its_revision,
            told={name.decode(): value for name, value in _pairs(told)},
            busy={name.decode(): int(count) for name, count in _pairs(busy)},
            loads=dict(_loads(loads)),
            depths={name.decode(): int(count) for name, count in _pairs(depths)},
            rates=dict(map(_rates, _pairs(learned))) if rates else None,
            turns=[name.decode() for name in mine],
        )

    async def saw(self, told: dict[str, bytes]) -> None:
        """Tell all replicas something of nodes, by name; b"" takes it away."""
        args: list[str | int | bytes] = []
        for name, value in told.items():
            args += [name, value]
        await self._call("saw", args)

    async def judge(self, name: str, was: Breaker, to_be: Breaker) -> tuple[int, Breaker | None]:
        """Change a breaker that still is what it `was`. Redis' ms; None, or what it is instead."""
        args: list[str | int | bytes] = [name, breaker.encode(was), breaker.encode(to_be)]
        done, now_ms, *other = await self._call("judge", args)
        return now_ms, None if done else breaker.decode(other[0])

    def _asked(self, ask: Ask, depth_max: int, *, waits: bool) -> list[str | int | bytes]:
        args: list[str | int | bytes] = [
            ask.id, self._channel, ask.key_id, ask.weight, ask.model, ask.tokens, depth_max, int(waits),
            len(ask.candidates),
        ]  # fmt: skip
        for one in ask.candidates:
            args += [one.backend, one.slots, int(one.state != "loaded"), int(one.equal), one.load_from]
        return [*args, len(ask.lookups), *ask.lookups, len(ask.records), *ask.records, ask.home_ms]

    async def _call(self, verb: str, args: Sequence[str | int | bytes]) -> Any:
        return await self._functions.call(verb, self._keys, args)


def woken(message: str) -> tuple[str, Placed]:
    """What the functions publish to a replica: which attempt has which slot."""
    attempt, backend, loads, cached = message.split(" ")
    return attempt, Placed(backend, loads == "1", cached == "1")


def _verdict(reply: list[Any]) -> Placed | Waiting | Full:
    verdict, *said = reply
    if verdict == 1:
        return Placed(said[0].decode(), bool(said[1]), bool(said[2]))
    return Waiting(said[0], said[1]) if verdict == 0 else Full(said[0])


def _freed(now_ms: int, backend: bytes, model: bytes, node: bytes, pair: bytes) -> Freed:
    return Freed(now_ms, backend.decode(), model.decode(), breaker.decode(node), breaker.decode(pair))


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _loads(flat: list[bytes]) -> Iterable[tuple[str, str]]:
    """Of the loads only those under way: the others are named by two words."""
    return ((name.decode(), load.decode().split(" ")[1]) for name, load in _pairs(flat) if b" " not in name)


class _Learned(Struct, frozen=True):
    load: float
    prompt: float
    cached: float
    output: float
    call: float
    n: int
    h: int


_learned = msgspec.json.Decoder(_Learned, strict=False)


def _rates(pair: tuple[bytes, bytes]) -> tuple[tuple[str, str], Rates]:
    backend, model = pair[0].decode().split(" ")
    said = _learned.decode(pair[1])
    rates = Rates(
        load_ms=said.load,
        prompt_token_ms=said.prompt,
        cached_token_ms=said.cached,
        output_token_ms=said.output,
        call_ms=said.call,
        calls=said.n,
        cached_calls=said.h,
    )
    return (backend, model), rates
