"""What Redis knows of a key, told and not changed: to its holder, and to operators."""

from typing import Any

from gateway.core.addresses import NOBODY
from gateway.core.call import Account, Explanation, Level, Levels, Limited, ModelLevels, Statement
from gateway.core.keys import Credential
from gateway.core.limits import Estimate
from gateway.core.usage import STREAM_BYTES_MAX
from gateway.errors import KeyNotFound, KeysNotLoaded, Unauthorized
from gateway.state import keyspace
from gateway.state.failures import Failures
from gateway.state.functions import Functions
from gateway.state.limiter import REFUSALS, levels_of, refusal
from gateway.state.teams import Teams

OPERATOR = "*"
"""stands for the digests of a presented key: none was presented, and none is needed"""
MODELS_AT, ACCOUNT_AT = 14, 15
"""where the limits of models and the fields of the account stand in what the functions tell of an owner"""


class RedisInspector:
    """Keeps `ports.Inspector`. `stream_bytes_max` as of the limiter."""

    def __init__(
        self, functions: Functions, shards: int, failures: Failures, *, stream_bytes_max: int = STREAM_BYTES_MAX
    ) -> None:
        self._functions = functions
        self._failures = failures
        self._shards = shards
        self._shard_bytes_max = stream_bytes_max // shards
        self._teams = Teams(shards)

    async def inspect(self, credential: Credential, source: str) -> Statement:
        """What the key's holder, at the address `source`, has left. Raises `Unauthorized`, `AddressNotAllowed`."""
        try:
            return await self._inspect(credential.key_id, ",".join(credential.digests), source)
        except Unauthorized as error:
            raise await self._failures.failed(source, error) from None

    async def statement(self, key_id: str) -> Statement:
        """The same, for an operator: of any key, also of one that is revoked. Raises `KeyNotFound`."""
        try:
            return await self._inspect(key_id, OPERATOR, NOBODY)
        except Unauthorized:
            raise KeyNotFound from None

    async def explain(self, key_id: str, model: str, estimate: Estimate) -> Explanation:
        """What admission would say of such a call of the key. Changes nothing. Raises `KeyNotFound`."""
        shard = keyspace.of_key(key_id, self._shards).shard
        before = [keyspace.ready(shard), keyspace.prices(shard), keyspace.usage(shard), keyspace.usage_dead(shard)]
        asked: list[str | int] = [
            model,
            estimate.prompt_max,
            estimate.prompt_expected,
            estimate.output_max,
            self._shard_bytes_max,
        ]
        reply = await self._teams.ask(
            key_id, lambda owners, team: self._functions.call("explain", before + owners, [team, *asked])
        )
        if len(reply) == 2:
            raise KeyNotFound if reply[1] == b"unknown" else REFUSALS[reply[1].decode()]
        _, reason, whose, wait_ms, output_tokens_max, price_micro, limits = reply
        return Explanation(
            reason=reason.decode(),
            whose=whose.decode(),
            wait_ms=wait_ms if wait_ms > 0 else None,
            output_tokens_max=output_tokens_max,
            price_micro=price_micro,
            limits=tuple(_limited(*one) for one in limits),
        )

    async def team(self, team_id: str) -> tuple[str, Account]:
        """The month, and what the team has used of it. Raises `KeysNotLoaded` while Redis does not have the team."""
        reply = await self._functions.call("inspect_team", keyspace.TeamNames(team_id, self._shards).all(), [])
        if not reply[0]:
            raise KeysNotLoaded
        return reply[1].decode(), _account(reply[2])

    async def _inspect(self, key_id: str, digests: str, source: str) -> Statement:
        ready = keyspace.ready(keyspace.of_key(key_id, self._shards).shard)
        told: list[str] = []

        async def ask(owners: list[str], team: str) -> Any:
            told.append(team)
            return await self._functions.call("inspect", [ready, *owners], [team, digests, source])

        reply = await self._teams.ask(key_id, ask)
        if not reply[0]:
            raise refusal(reply[1].decode(), "key", -1, Levels())
        _, month, models, scopes, key, *team = reply
        return Statement(
            month=month.decode(),
            models=tuple(models.decode().split()),
            scopes=tuple(scopes.decode().split()),
            key=_account(key),
            team_id=told[-1],
            team=_account(team[0]) if team else None,
        )


def _account(reply: list[Any]) -> Account:
    monthly, spent, held, granted, charged, credit_held, concurrency, running = reply[:8]
    fields = {
        name.decode(): int(value) for name, value in zip(reply[ACCOUNT_AT][::2], reply[ACCOUNT_AT][1::2], strict=True)
    }
    return Account(
        monthly_tokens=_or_none(monthly),
        tokens_spent=spent,
        tokens_held=held,
        granted_micro=_or_none(granted),
        charged_micro=charged,
        credit_held_micro=credit_held,
        concurrency=_or_none(concurrency),
        running=running,
        levels=levels_of(reply[8:MODELS_AT]),
        models=_models(reply[MODELS_AT]),
        shadow=_named("shadow:", fields),
        used_ms=_named("used:", fields),
    )


def _models(reply: list[Any]) -> tuple[ModelLevels, ...]:
    """`reply`: of each limit its kind and its glob, the limit, what is left, ms until it is whole."""
    found: dict[str, dict[str, Level]] = {}
    for name, *level in reply:
        kind, _, glob = name.decode().partition(" ")
        found.setdefault(glob, {})[kind] = Level(*level)
    return tuple(ModelLevels(glob, Levels(**levels)) for glob, levels in found.items())


def _named(prefix: str, fields: dict[str, int]) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}


def _limited(whose: bytes, what: bytes, *numbers: int) -> Limited:
    limit, left, needed, left_after, wait_ms = numbers
    return Limited(
        whose=whose.decode(),
        what=what.decode(),
        limit=limit,
        left=left,
        needed=needed,
        left_after=left_after,
        wait_ms=wait_ms,
    )


def _or_none(number: int) -> int | None:
    return None if number < 0 else number
