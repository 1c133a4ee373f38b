"""What each view of the schema `dashboard` has to show, computed from the calls themselves.

A figure is a list of rows by column name, in any order; it may have columns that the view has not.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

from gateway.core.usage import UsageEvent
from tests.integration.usage_crowd import Crowd, Holder

Row = dict[str, Any]
Figure = Callable[[Crowd], list[Row]]
SHARES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
NEAR = Fraction(4, 5)


def at(one: UsageEvent) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=one.at_ms)


def hour_of(one: UsageEvent) -> datetime:
    return at(one).replace(minute=0, second=0, microsecond=0)


def day_of(one: UsageEvent) -> date:
    return at(one).date()


COLUMNS: dict[str, Callable[[UsageEvent], Any]] = {
    "hour": hour_of,
    "day": day_of,
    "month": lambda one: datetime.strptime(one.month + "01 +0000", "%Y%m%d %z").date(),
    "api_key_id": lambda one: one.key_id,
    "team_id": lambda one: one.team_id,
    "model": lambda one: one.detail.model,
    "backend": lambda one: one.detail.backend,
    "status": lambda one: one.detail.status,
}


def groups(events: Iterable[UsageEvent], *by: str) -> list[tuple[Row, list[UsageEvent]]]:
    """The calls that have these columns in common, with the columns."""
    found: dict[tuple[Any, ...], list[UsageEvent]] = defaultdict(list)
    for one in events:
        found[tuple(COLUMNS[name](one) for name in by)].append(one)
    return [(dict(zip(by, key, strict=True)), members) for key, members in found.items()]


def sums(events: Sequence[UsageEvent]) -> Row:
    details = [one.detail for one in events]
    return {
        "calls": len(events),
        "failed_calls": sum(one.status != "ok" for one in details),
        "estimated_calls": sum(one.estimated for one in events),
        "prompt_tokens": sum(one.prompt_tokens for one in events),
        "completion_tokens": sum(one.completion_tokens for one in events),
        "total_tokens": tokens(events),
        "credits": Fraction(sum(one.credits_micro for one in events), 10**6),
        "team_credits": Fraction(sum(one.team_credits_micro for one in events), 10**6),
        "response_seconds": Fraction(sum(one.response_time_ms for one in details), 1000),
        "queue_seconds": Fraction(sum(one.queue_ms for one in details), 1000),
        "gpu_seconds": Fraction(sum(one.load_ms + one.prompt_ms + one.eval_ms for one in details), 1000),
        "keys": len({one.key_id for one in events}),
        "models": len({one.model for one in details}),
    }


def tokens(events: Iterable[UsageEvent]) -> int:
    return sum(one.prompt_tokens + one.completion_tokens for one in events)


def by(*columns: str) -> Figure:
    return lambda crowd: [about | sums(events) for about, events in groups(crowd.events, *columns)]


def labels(holders: dict[str, Holder], holder_id: str) -> Row:
    one = holders.get(holder_id)
    return {"label": one.label if one else "", "owner_email": one.owner_email if one else ""}


def usage_by_key(crowd: Crowd) -> list[Row]:
    return [row | labels(crowd.keys, row["api_key_id"]) for row in by("day", "api_key_id")(crowd)]


def usage_by_team(crowd: Crowd) -> list[Row]:
    rows = by("day", "team_id")(crowd)
    return [row | labels(crowd.teams, row["team_id"]) for row in rows if row["team_id"]]


def usage_by_backend(crowd: Crowd) -> list[Row]:
    return [row for row in by("day", "backend")(crowd) if row["backend"]]


def top_keys(crowd: Crowd) -> list[Row]:
    mine = groups([one for one in crowd.events if one.month == crowd.this_month], "api_key_id")
    rows = [about | sums(events) | labels(crowd.keys, about["api_key_id"]) for about, events in mine]
    return [row | {"place": 1 + sum(row["total_tokens"] < one["total_tokens"] for one in rows)} for row in rows]


def bucket(ms: int) -> int:
    """As usage_bucket: bucket b ends with 2^(b/4) ms."""
    return 0 if ms <= 1 else math.ceil(4 * math.log(ms) / math.log(2) - 1e-9)


def within(share: float, took: Sequence[int]) -> float:
    """As usage_within: of the buckets up to the one in which that share of all is reached."""
    upto = 0
    for number, count in sorted(Counter(map(bucket, took)).items()):
        upto += count
        if upto >= Fraction(str(share)) * len(took):
            low = 2 ** ((number - 1) / 4) if number else 0.0
            return low + (2 ** (number / 4) - low) * max(0.0, share * len(took) - (upto - count)) / count
    raise AssertionError(share)


def times(events: Iterable[UsageEvent], what: str) -> list[int]:
    """What a percentile is made of, in ms."""
    details = [one.detail for one in events]
    if what == "queue":
        return [one.queue_ms for one in details]
    well = [one for one in details if one.status == "ok"]
    if what == "response":
        return [one.response_time_ms for one in well]
    return [one.first_token_ms for one in well if one.first_token_ms]


def percentiles(took: Sequence[int]) -> Row:
    return {"calls": len(took)} | {name: within(share, took) for name, share in SHARES.items()}


def latency(grain: str) -> Figure:
    return lambda crowd: [
        about | {"what": what} | percentiles(took)
        for about, events in groups(crowd.events, grain, "model")
        for what in ("response", "first_token")
        if (took := times(events, what))
    ]


def queue_waits(crowd: Crowd) -> list[Row]:
    return [
        about | percentiles(took := times(events, "queue")) | {"waited_calls": sum(ms > 1 for ms in took)}
        for about, events in groups(crowd.events, "hour", "model")
    ]


def errors(crowd: Crowd) -> list[Row]:
    return [
        about | ended | {"calls": len(some), "share": Fraction(len(some), len(events))}
        for about, events in groups(crowd.events, "day", "model", "backend")
        for ended, some in groups(events, "status")
        if ended["status"] != "ok"
    ]


def cost(crowd: Crowd) -> list[Row]:
    return [
        row | labels(crowd.keys, row["api_key_id"]) | {"team_label": labels(crowd.teams, row["team_id"])["label"]}
        for row in by("month", "api_key_id", "team_id")(crowd)
    ]


def near_limit(crowd: Crowd) -> list[Row]:
    rows = []
    for one in crowd.keys.values():
        said = [limit for limit in (one.limit, crowd.tiers.get(one.tier or "", ""), crowd.default) if limit != ""]
        mine = [event for event in crowd.events if event.key_id == one.id]
        if one.live:
            rows += used("key", crowd, one, mine, [event.credits_micro for event in mine], said[0] if said else None)
    for one in crowd.teams.values():
        ours = [event for event in crowd.events if event.team_id == one.id]
        charged = [event.team_credits_micro for event in ours]
        rows += used("team", crowd, one, ours, charged, None if one.limit == "" else one.limit)
    return [row for row in rows if row["used"] >= NEAR * row["most"]]


def used(
    kind: str, crowd: Crowd, one: Holder, events: Sequence[UsageEvent], charged: Sequence[int], limit: Any
) -> list[Row]:
    """Of the limit, if there is one, and of the credits, if they are counted."""
    found = []
    if limit is not None:
        spent = tokens(event for event in events if event.month == crowd.this_month)
        found.append({"what": "monthly_tokens", "used": Fraction(spent), "most": Fraction(limit)})
    if one.metered:
        found.append(
            {"what": "credits", "used": Fraction(sum(charged), 10**6), "most": Fraction(one.granted_micro, 10**6)}
        )
    about = {"kind": kind, "id": one.id, "label": one.label}
    return [about | row | {"share": row["used"] / row["most"] if row["most"] else Fraction(1)} for row in found]


def calls(crowd: Crowd) -> list[Row]:
    return [single(one) for one in crowd.events]


def single(one: UsageEvent) -> Row:
    detail = one.detail
    told = ("endpoint", "dialect", "streamed", "http_status", "finish_reason", "response_time_ms", "first_token_ms",
            "queue_ms", "load_ms", "prompt_ms", "eval_ms", "end_user", "address_hash")  # fmt: skip
    about = {name: COLUMNS[name](one) for name in ("api_key_id", "team_id", "model", "backend", "status")}
    rest = {name: getattr(detail, name) for name in told}
    return sums([one]) | about | rest | {"id": UUID(one.id), "created_at": at(one), "estimated": one.estimated}


def attempts(crowd: Crowd) -> list[Row]:
    return [
        {"created_at": at(one), "call_id": UUID(one.id), "number": number, "backend": tried.backend,
         "status": tried.status, "queue_ms": tried.queue_ms, "response_time_ms": tried.response_time_ms}
        for one in crowd.events for number, tried in enumerate(one.detail.attempts, 1)
    ]  # fmt: skip


FIGURES: dict[str, Figure] = {
    "hourly": by("hour", "api_key_id", "team_id", "model", "backend", "status"),
    "daily": by("day", "api_key_id", "team_id", "model", "backend", "status"),
    "usage_by_day": by("day"),
    "usage_by_key": usage_by_key,
    "usage_by_model": by("day", "model"),
    "usage_by_team": usage_by_team,
    "usage_by_backend": usage_by_backend,
    "top_keys": top_keys,
    "latency_by_hour": latency("hour"),
    "latency_by_day": latency("day"),
    "queue_waits": queue_waits,
    "errors": errors,
    "cost": cost,
    "near_limit": near_limit,
    "calls": calls,
    "attempts": attempts,
}
