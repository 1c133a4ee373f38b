"""The limit functions as a port: admit, renew, settle, inspect. A verdict is Redis' alone; doubt is 503, never 401."""

from typing import Any

from gateway.core.call import Admission, Bill, Call, Level, Levels, Statement
from gateway.core.keys import Credential
from gateway.core.routing import OBJECTIONS
from gateway.core.usage import detail_json
from gateway.errors import (
    AllowanceHeld,
    ConcurrencyLimited,
    CostExceedsLimit,
    CreditsExhausted,
    GatewayError,
    KeysNotLoaded,
    LimitsUnavailable,
    MonthlyTokensExhausted,
    RequestsLimited,
    TokensLimited,
    Unauthorized,
)
from gateway.state import keyspace
from gateway.state.functions import Functions

LEASE_MS = 15_000

REFUSALS: dict[str, type[GatewayError]] = {
    "not_ready": KeysNotLoaded,
    "ended": LimitsUnavailable,
    "unknown": Unauthorized,
    **OBJECTIONS,
    "too_large": CostExceedsLimit,
    "credits": CreditsExhausted,
    "month": MonthlyTokensExhausted,
    "held": AllowanceHeld,
    "concurrency": ConcurrencyLimited,
    "requests": RequestsLimited,
    "tokens": TokensLimited,
}


class RedisLimiter:
    """Calls the functions of `lua/` with the keys each declares, and turns their replies into records and errors."""

    def __init__(self, functions: Functions, shards: int) -> None:
        self._functions = functions
        self._shards = shards

    async def admit(self, call: Call, objection: str, detail: bytes) -> Admission:
        names = keyspace.KeyNames(call.credential.key_id, self._shards)
        reply = await self._functions.call(
            "admit",
            [*_reading(names), keyspace.lease(names.shard, call.id), keyspace.leases(names.shard)],
            [
                call.id,
                call.credential.key_id,
                call.credential.digest,
                objection,
                call.estimate.prompt_max,
                call.estimate.expected,
                call.estimate.output_max,
                call.estimate.price_micro,
                LEASE_MS,
                call.estimate.prompt_expected,
                detail,
            ],
        )
        granted, reason, wait_ms, at_ms, output_tokens_max = reply[:5]
        levels = _levels(reply[5:])
        if not granted:
            raise _refusal(reason.decode(), wait_ms, levels)
        return Admission(at_ms=at_ms, output_tokens_max=output_tokens_max, levels=levels)

    async def void(self, call: Call) -> None:
        """Undo an admission whose reply was lost; does nothing when there was none."""
        names = keyspace.KeyNames(call.credential.key_id, self._shards)
        await self._functions.call(
            "void", [*_closing(names, call.id), names.requests], [call.id, call.credential.key_id]
        )

    async def renew(self, call: Call, prompt_tokens: int, completion_tokens: int) -> bool:
        """Keep the lease, note the tokens so far. False: the call was taken for dead and has been settled."""
        names = keyspace.KeyNames(call.credential.key_id, self._shards)
        reply = await self._functions.call(
            "renew",
            [names.running, keyspace.lease(names.shard, call.id), keyspace.leases(names.shard)],
            [call.id, call.credential.key_id, LEASE_MS, prompt_tokens, completion_tokens],
        )
        return bool(reply)

    async def settle(self, call: Call, bill: Bill) -> bool:
        """Charge and record the call, once however often it is asked. False: it was settled or never open."""
        names = keyspace.KeyNames(call.credential.key_id, self._shards)
        reply = await self._functions.call(
            "settle",
            [*_closing(names, call.id), keyspace.usage(names.shard)],
            [
                call.id,
                call.credential.key_id,
                bill.prompt_tokens,
                bill.completion_tokens,
                bill.credits_micro,
                int(bill.estimated),
                detail_json(bill.detail),
            ],
        )
        return bool(reply)

    async def reap(self, shard: int, key_id: str, call_id: str, grace_ms: int) -> bool:
        """Settle the call of a replica that died, if its lease is `grace_ms` past its deadline. Whether it did."""
        names = keyspace.KeyNames(key_id, self._shards)
        reply = await self._functions.call(
            "reap", [*_closing(names, call_id), keyspace.usage(shard)], [call_id, key_id, grace_ms]
        )
        return bool(reply)

    async def inspect(self, credential: Credential) -> Statement:
        names = keyspace.KeyNames(credential.key_id, self._shards)
        reply = await self._functions.call("inspect", _reading(names), [credential.digest])
        if not reply[0]:
            raise _refusal(reply[1].decode(), -1, Levels())
        _, _, month, monthly, spent, held, credit, credit_held, concurrency, running = reply[:10]
        return Statement(
            month=month.decode(),
            monthly_tokens=_or_none(monthly),
            tokens_spent=spent,
            tokens_held=held,
            credit_micro=_or_none(credit),
            credit_held_micro=credit_held,
            concurrency=_or_none(concurrency),
            running=running,
            levels=_levels(reply[10:]),
        )


def _reading(names: keyspace.KeyNames) -> list[str]:
    """The keys that show who a key is and what it has left, in the order of admit.lua and inspect.lua."""
    return [keyspace.ready(names.shard), names.key, names.account, names.requests, names.tokens, names.running]


def _closing(names: keyspace.KeyNames, call_id: str) -> list[str]:
    """The keys that whatever ends a lease touches, in the order of settle.lua, void.lua and reap.lua."""
    return [
        names.key,
        names.account,
        names.tokens,
        names.running,
        keyspace.lease(names.shard, call_id),
        keyspace.leases(names.shard),
    ]


def _refusal(reason: str, wait_ms: int, levels: Levels) -> GatewayError:
    error = REFUSALS[reason](retry_after_s=-(-wait_ms // 1000) if wait_ms > 0 else None)
    error.levels = levels
    return error


def _levels(reply: list[Any]) -> Levels:
    return Levels(requests=_level(*reply[:3]), tokens=_level(*reply[3:6]))


def _level(limit: int, left: int, reset_ms: int) -> Level | None:
    return None if limit < 0 else Level(limit, left, reset_ms)


def _or_none(number: int) -> int | None:
    return None if number < 0 else number
