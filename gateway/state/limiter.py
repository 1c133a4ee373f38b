"""The limit functions as a port: admit, renew, settle. A verdict is Redis' alone; doubt is 503, never 401."""

from typing import Any

from gateway.core.call import Admission, Bill, Call, Level, Levels
from gateway.core.placing import LINE_FULL
from gateway.core.routing import OBJECTIONS
from gateway.core.usage import STREAM_BYTES_MAX, detail_json
from gateway.errors import (
    AddressNotAllowed,
    AllowanceHeld,
    ConcurrencyLimited,
    CostExceedsLimit,
    CreditsExhausted,
    GatewayError,
    KeyRevoked,
    KeysNotLoaded,
    LeaseLost,
    LimitsUnavailable,
    LineFull,
    MeteringBacklog,
    ModelNotFound,
    MonthlyTokensExhausted,
    RequestsLimited,
    ScopeMissing,
    TokensLimited,
    Unauthorized,
)
from gateway.state import keyspace
from gateway.state.functions import Functions
from gateway.state.teams import Teams

LEASE_MS = 15_000
INFERENCE = "inference"
TEAM = "team"
TEAM_WORDS = "The limit is one of the key's team."
LOST: dict[int, type[GatewayError]] = {0: LeaseLost, 2: KeyRevoked}
"""what `renew` says of a call that has to end"""

REFUSALS: dict[str, type[GatewayError]] = {
    "not_ready": KeysNotLoaded,
    "ended": LimitsUnavailable,
    "unknown": Unauthorized,
    "network": AddressNotAllowed,
    "scope": ScopeMissing,
    "model": ModelNotFound,
    **OBJECTIONS,
    LINE_FULL: LineFull,
    "backlog": MeteringBacklog,
    "too_large": CostExceedsLimit,
    "credits": CreditsExhausted,
    "month": MonthlyTokensExhausted,
    "held": AllowanceHeld,
    "concurrency": ConcurrencyLimited,
    "requests": RequestsLimited,
    "tokens": TokensLimited,
}


class RedisLimiter:
    """Calls the functions of `lua/` with the keys each declares, and turns their replies into records and errors.

    `shadow`: limits are counted and refuse nobody, whatever the keys say. `stream_bytes_max`: what the events of all
    shards may take before no new call is let in.
    """

    def __init__(
        self, functions: Functions, shards: int, *, shadow: bool = False, stream_bytes_max: int = STREAM_BYTES_MAX
    ) -> None:
        self._functions = functions
        self._shards = shards
        self._shadow = shadow
        self._shard_bytes_max = stream_bytes_max // shards
        self._teams = Teams(shards)

    async def admit(self, call: Call, objection: str, detail: bytes) -> Admission:
        key_id, shard = call.credential.key_id, self._shard(call)
        before = [
            keyspace.ready(shard),
            keyspace.prices(shard),
            keyspace.lease(shard, call.id),
            keyspace.leases(shard),
            keyspace.usage(shard),
            keyspace.usage_dead(shard),
        ]
        asked: list[str | int | bytes] = [
            ",".join(call.credential.digests),
            call.source,
            INFERENCE,
            objection,
            call.model,
            call.estimate.prompt_max,
            call.estimate.prompt_expected,
            call.estimate.output_max,
            LEASE_MS,
            int(self._shadow),
            detail,
            self._shard_bytes_max,
        ]
        reply = await self._teams.ask(
            key_id, lambda owners, team: self._functions.call("admit", before + owners, [call.id, key_id, team, *asked])
        )
        granted, reason, whose, wait_ms, at_ms, output_tokens_max = reply[:6]
        levels = levels_of(reply[6:12])
        if not granted:
            raise refusal(reason.decode(), whose.decode(), wait_ms, levels)
        team = self._teams.of(key_id)
        return Admission(at_ms, output_tokens_max, levels, reply[12].decode(), reply[13], team)

    async def void(self, call: Call) -> None:
        """Undo an admission whose reply was lost; does nothing when there was none."""
        await self._end("void", call, [])

    async def renew(self, call: Call, prompt_tokens: int, completion_tokens: int) -> type[GatewayError] | None:
        """Keep the lease, note the tokens so far. Why the call must end, if it must."""
        reply = await self._end("renew", call, [LEASE_MS, prompt_tokens, completion_tokens])
        return LOST.get(reply[0])

    async def settle(self, call: Call, bill: Bill) -> bool:
        """Charge and record the call, once however often it is asked. False: it was settled or never open."""
        reply = await self._end(
            "settle",
            call,
            [
                bill.prompt_tokens,
                bill.completion_tokens,
                int(bill.paid),
                int(bill.estimated),
                int(bill.whole),
                detail_json(bill.detail),
            ],
            keyspace.usage(self._shard(call)),
        )
        return bool(reply[0])

    async def reap(self, shard: int, key_id: str, call_id: str, grace_ms: int) -> bool:
        """Settle the call of a replica that died, if its lease is `grace_ms` past its deadline. Whether it did."""
        before = [keyspace.lease(shard, call_id), keyspace.leases(shard), keyspace.usage(shard)]
        reply = await self._teams.ask(
            key_id,
            lambda owners, team: self._functions.call("reap", before + owners, [call_id, key_id, team, grace_ms]),
        )
        return bool(reply[0])

    async def _end(self, verb: str, call: Call, args: list[Any], *more: str) -> list[Any]:
        """A function on a call's lease. `more`: keys that come behind those of the lease."""
        key_id, shard = call.credential.key_id, self._shard(call)
        before = [keyspace.lease(shard, call.id), keyspace.leases(shard), *more]
        return await self._teams.ask(
            key_id, lambda owners, team: self._functions.call(verb, before + owners, [call.id, key_id, team, *args])
        )

    def _shard(self, call: Call) -> int:
        return keyspace.of_key(call.credential.key_id, self._shards).shard


def refusal(reason: str, whose: str, wait_ms: int, levels: Levels) -> GatewayError:
    """The error for a function's reason. `wait_ms` is negative where waiting does not help."""
    error = REFUSALS[reason](retry_after_s=-(-wait_ms // 1000) if wait_ms > 0 else None)
    if whose == TEAM:
        error = type(error)(f"{error.message} {TEAM_WORDS}", retry_after_s=error.retry_after_s)
    error.levels = levels
    return error


def levels_of(reply: list[Any]) -> Levels:
    """<levels> of the functions."""
    return Levels(requests=_level(*reply[:3]), tokens=_level(*reply[3:6]))


def _level(limit: int, left: int, reset_ms: int) -> Level | None:
    return None if limit < 0 else Level(limit, left, reset_ms)
