"""Calls of many keys over three months by chance, and the keys, teams and tiers they belong to, in the database."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.admin.postgres import Postgres
from gateway.core.usage import Detail, Tried, UsageEvent
from workers.store import UsageStore

MODELS = ("llama3.2:3b", "qwen3:8b", "bge-m3:latest")
BACKENDS = ("node-1", "node-2", "")
STATUSES = ("ok", "ok", "ok", "ok", "client_gone", "backend_timeout", "no_backend_available")
KEYS = tuple(f"key{number}" for number in range(12))
UNKNOWN_KEY = "gone"
TEAMS = ("red", "green", "blue")
TIERS = ("basic", "premium")
TIMES = 60
"""of calls: so many hours, and in each of them calls at any millisecond"""
SHARES_OF_LIMIT = ("0.5", "0.79999", "0.8", "0.95", "1", "1.4")


class Holder(Struct, kw_only=True):
    """A key or team as the database has it. `limit`: "" says nothing, None says that there is none."""

    id: str
    label: str
    owner_email: str = ""
    limit: int | str | None = ""
    tier: str | None = None
    metered: bool = False
    granted_micro: int = 0
    live: bool = True
    """neither revoked nor switched off"""


class Crowd(Struct):
    events: list[UsageEvent]
    keys: dict[str, Holder]
    teams: dict[str, Holder]
    tiers: dict[str, int | str | None]
    """their limits of tokens a month; likewise"""
    default: int | str | None
    this_month: str


def calls(rng: random.Random, now: datetime, count: int) -> list[UsageEvent]:
    """So many calls of this month and the two before, some in the last moment of a month and charged to the next."""
    first = _month_before(_month_before(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)))
    hours = [first + rng.random() * (now - first) for _ in range(TIMES)]
    hours += [_month_after(first), _month_after(_month_after(first))]
    return [_call(rng, rng.choice(hours), plain=rng.random() < 0.3) for _ in range(count)]


def _call(rng: random.Random, hour: datetime, *, plain: bool) -> UsageEvent:
    at_ms = int(hour.timestamp()) * 1000 + rng.choice((rng.randrange(-2_000, 0), rng.randrange(3_000_000)))
    charged_ms = at_ms + rng.choice((0, 2_000))  # admitted just before midnight
    ran = not plain
    detail = Detail(
        model=rng.choice(MODELS),
        endpoint=rng.choice(("/v1/chat/completions", "/api/chat")),
        backend=rng.choice(BACKENDS),
        status=rng.choice(STATUSES),
        http_status=rng.choice((200, 200, 503)),
        streamed=rng.random() < 0.5,
        finish_reason=rng.choice(("stop", "length", "")),
        response_time_ms=_took_ms(rng),
        first_token_ms=ran * _took_ms(rng) // 4,
        queue_ms=ran * _took_ms(rng) // 9,
        load_ms=rng.choice((0, 0, 9_000)),
        prompt_ms=ran * rng.randrange(500),
        eval_ms=ran * rng.randrange(20_000),
        end_user=rng.choice(("", "ann", "bob")),
        dialect=rng.choice(("openai", "ollama", "")),
        address_hash=rng.choice(("", "0af3")),
        attempts=tuple(
            Tried(rng.choice(BACKENDS), "backend_refused", rng.randrange(9), rng.randrange(900))
            for _ in range(rng.choice((0, 0, 0, 1, 3)))
        ),
    )
    return UsageEvent(
        id=str(UUID(int=rng.getrandbits(128))),
        key_id=rng.choice((*KEYS, UNKNOWN_KEY)),
        at_ms=at_ms,
        month=f"{datetime.fromtimestamp(charged_ms / 1000, UTC):%Y%m}",
        prompt_tokens=rng.randrange(4_000),
        completion_tokens=ran * rng.randrange(2_000),
        credits_micro=rng.choice((0, 1, 999_999, 1_234_567)),
        estimated=rng.random() < 0.2,
        detail=detail,
        team_id=rng.choice(("", *TEAMS)),
        team_credits_micro=rng.choice((0, 7, 2_000_000)),
    )


def _took_ms(rng: random.Random) -> int:
    return rng.choice((0, 1, 2, int(rng.lognormvariate(6, 1.5)), int(rng.lognormvariate(8, 0.6))))


async def inserted(rng: random.Random, postgres: Postgres, events: Sequence[UsageEvent]) -> None:
    """In batches, as a worker does; each batch again with the next one."""
    store = UsageStore(postgres)
    for start in range(0, len(events), 200):
        batch = list(events[max(0, start - 50) : start + 200])
        rng.shuffle(batch)
        assert not (await store.insert(batch)).refused


async def settled(rng: random.Random, database: asyncpg.Connection, events: list[UsageEvent], now: datetime) -> Crowd:
    """Keys, teams, tiers and defaults around the calls, with limits that some have reached and some nearly."""
    crowd = Crowd(events, {}, {}, {name: _limit(rng, None) for name in TIERS}, _limit(rng, None), f"{now:%Y%m}")
    for key_id in KEYS:
        mine = [one for one in events if one.key_id == key_id]
        crowd.keys[key_id] = _holder(rng, key_id, mine, now, [one.credits_micro for one in mine], keyed=True)
    for team_id in TEAMS[1:]:  # one is gone
        ours = [one for one in events if one.team_id == team_id]
        crowd.teams[team_id] = _holder(rng, team_id, ours, now, [one.team_credits_micro for one in ours], keyed=False)
    await _write(database, crowd)
    return crowd


def _holder(
    rng: random.Random, name: str, events: Sequence[UsageEvent], now: datetime, credits: Sequence[int], *, keyed: bool
) -> Holder:
    used = sum(one.prompt_tokens + one.completion_tokens for one in events if one.month == f"{now:%Y%m}")
    owner = rng.choice(("", f"{name}@example.org")) if keyed else ""
    return Holder(
        id=name,
        label=f"label of {name}",
        owner_email=owner,
        limit=_limit(rng, used),
        tier=rng.choice((None, *TIERS)) if keyed else None,
        metered=rng.random() < 0.7,
        granted_micro=rng.choice((0, int(sum(credits) / float(rng.choice(SHARES_OF_LIMIT))))),
        live=not keyed or rng.random() < 0.8,
    )


def _limit(rng: random.Random, used: int | None) -> int | str | None:
    some = 100_000 if used is None else max(1, round(used / float(rng.choice(SHARES_OF_LIMIT))))
    return rng.choice(("", None, some, some))


async def _write(database: asyncpg.Connection, crowd: Crowd) -> None:
    for name, limit in crowd.tiers.items():
        await database.execute("UPDATE tiers SET limits = $2 WHERE name = $1", name, _limits(limit))
    await database.execute("UPDATE default_limits SET limits = $1", _limits(crowd.default))
    for one in crowd.keys.values():
        await database.execute(
            "INSERT INTO api_keys (id, label, owner_email, limits, tier, metered, credits_granted_micro, enabled)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            one.id, one.label, one.owner_email, _limits(one.limit), one.tier, one.metered, one.granted_micro, one.live,
        )  # fmt: skip
    for one in crowd.teams.values():
        await database.execute(
            "INSERT INTO teams (id, label, limits, metered, credits_granted_micro) VALUES ($1, $2, $3, $4, $5)",
            one.id, one.label, _limits(one.limit), one.metered, one.granted_micro,
        )  # fmt: skip
    await database.execute("UPDATE api_keys SET revoked_at = now() WHERE NOT enabled AND id < 'key5'")


def _limits(limit: Any) -> str:
    return json.dumps({} if limit == "" else {"monthly_token_limit": limit})


def _month_before(first: datetime) -> datetime:
    return (first - timedelta(days=1)).replace(day=1)


def _month_after(first: datetime) -> datetime:
    return (first + timedelta(days=32)).replace(day=1)
