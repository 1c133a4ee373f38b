"""What the replicas read of keys, teams and prices: written by the admin API at once and by the worker to be sure."""

import asyncio
import secrets

from msgspec import UNSET, UnsetType
from redis.exceptions import ResponseError

from gateway.core import addresses
from gateway.core.limits import Limits
from gateway.core.pricing import Price, PriceList
from gateway.core.record import KeyRecord, Spent, Team
from gateway.errors import LimitsUnavailable
from gateway.state import keyspace
from gateway.state.functions import Calls, Functions

HYDRATION_S_MAX = 3_600
NOTHING = "-"
"""a list that allows nothing, where an empty one would allow everything"""


class KeyDirectory:
    """Keeps `ports.Directory`, and the sentinel that lets an unknown key be called unknown."""

    def __init__(self, redis: Calls, functions: Functions, shards: int) -> None:
        self._redis = redis
        self._functions = functions
        self._shards = shards

    async def publish(self, record: KeyRecord, spent: Spent | None) -> None:
        """Write a key. `spent` counts only where Redis has no figure of its own yet."""
        names = keyspace.KeyNames(record.key.id, self._shards)
        await self._publish(names.key, names.account, record.key.version, spent, _of_key(record))

    async def publish_team(self, team: Team, spent: Spent | None) -> None:
        """Write a team, as `publish` does a key."""
        names = keyspace.TeamNames(team.id, self._shards)
        fields = _of_limits(team.limits, metered=team.metered, granted_micro=team.granted_micro, shadow=team.shadow)
        await self._publish(names.team, names.account, team.version, spent, fields)

    async def publish_prices(self, prices: PriceList) -> None:
        """Write all prices to every shard."""
        args: list[str | int] = [prices.version, *_of_prices(prices)]
        shards = range(self._shards)
        await asyncio.gather(*(self._functions.call("reprice", [keyspace.prices(shard)], args) for shard in shards))

    async def _publish(
        self, record: str, account: str, version: int, spent: Spent | None, fields: list[str | int]
    ) -> None:
        figures: list[str | int] = ["", "", ""] if spent is None else [spent.credits_micro, spent.month, spent.tokens]
        await self._functions.call("publish", [record, account], [version, *figures, *fields])

    async def is_ready(self, shard: int) -> bool:
        return bool(await self._redis.call("EXISTS", keyspace.ready(shard)))

    async def incarnation(self) -> str:
        """Which run of the server answers; "" where an access list does not let us ask."""
        try:
            information = await self._redis.call("INFO", "server")
        except ResponseError:
            return ""
        return str(information["run_id"])

    async def begin(self, shard: int) -> str:
        """Put down a mark that is lost with everything else, should Redis lose its data. For `mark_ready`."""
        mark = secrets.token_hex(8)
        await self._redis.call("SET", keyspace.hydrating(shard, mark), "1", "EX", HYDRATION_S_MAX)
        return mark

    async def mark_ready(self, shard: int, mark: str) -> bool:
        """Say that the shard holds every key: from here on an unknown key is told so.

        False, and nothing is said: the data that held `mark` is gone, and the keys published before that with it.
        """
        name = keyspace.ready(shard)
        try:
            await self._redis.call("RENAME", keyspace.hydrating(shard, mark), name)  # one step, so nothing can be lost
        except ResponseError as error:
            if "no such key" not in str(error):
                raise LimitsUnavailable from error
            return False
        await self._redis.call("PERSIST", name)
        return True


def _of_key(record: KeyRecord) -> list[str | int]:
    """Field and value in turn, as owner.lua reads them."""
    key = record.key
    networks = ("-".join(addresses.bounds(network)) for network in key.networks)
    return [
        "digests",
        " ".join(f"{secret.digest}:{secret.expires_at_ms or 0}" for secret in key.secrets),
        "enabled",
        int(key.enabled),
        "expires",
        key.expires_at_ms or 0,
        "team",
        key.team_id or "",
        "scopes",
        " ".join(key.scopes) or NOTHING,
        "allow",
        " ".join(key.models),
        "networks",
        " ".join(networks),
        "multiplier",
        record.multiplier_milli,
        "weight",
        record.weight,
        *_of_limits(record.limits, metered=key.metered, granted_micro=key.granted_micro, shadow=key.shadow),
    ]


def _of_limits(limits: Limits, *, metered: bool, granted_micro: int, shadow: bool) -> list[str | int]:
    models = {} if limits.model_limits is UNSET else limits.model_limits
    return [
        "rpm",
        _text(limits.rate_limit_per_min),
        "burst",
        _text(limits.burst),
        "tpm",
        _text(limits.tokens_per_min),
        "concurrency",
        _text(limits.concurrency),
        "monthly",
        _text(limits.monthly_token_limit),
        "models",
        "".join(f"{glob} {_text(one.rate_limit_per_min)} {_text(one.tokens_per_min)};" for glob, one in models.items()),
        "metered",
        int(metered),
        "granted",
        granted_micro,
        "shadow",
        int(shadow),
    ]


def _of_prices(prices: PriceList) -> list[str]:
    """Model and its prices in turn, as price.lua reads them: the latest last."""
    of_model: dict[str, list[Price]] = {}
    for price in sorted(prices.prices, key=lambda one: one.valid_from_ms):
        of_model.setdefault(price.model, []).append(price)
    return [text for model, each in of_model.items() for text in (model, "".join(map(_price, each)))]


def _price(price: Price) -> str:
    return (
        f"{price.valid_from_ms}:{price.per_request_micro}:{price.per_1k_prompt_micro}:{price.per_1k_completion_micro};"
    )


def _text(limit: int | UnsetType | None) -> str | int:
    """An empty text is no limit."""
    return "" if limit is None or limit is UNSET else limit
