"""A short run that adds up, made by hand: a call of each kind, over the end of a month, with faults amid it."""

from datetime import UTC, datetime

from msgspec.structs import replace

from tests.chaos.ledgers import Call, Fault, Key, Ledgers, Row, Sums, Tariff, Work, summed

AT_S = datetime(2031, 5, 31, 23, 59, 30, tzinfo=UTC).timestamp()
TARIFF = Tariff(1_000, 10, 70)
KEYS = (Key(id="plain"), Key(id="metered", metered=True), Key(id="member", team_id="team", team_metered=True))
REDIS_DOWN = Fault(kind="redis", name="redis", killed_s=AT_S + 50, dead_s=AT_S + 50.1, up_s=AT_S + 52)
KILLED = Fault(kind="gateway", name="gateway-1", killed_s=AT_S + 53, dead_s=AT_S + 53.1, up_s=AT_S + 56)
KILLED_ALONE = Fault(kind="gateway", name="gateway-2", killed_s=AT_S + 20, dead_s=AT_S + 20.1, up_s=AT_S + 22)
LATE = "late"
"""the call that ended while Redis was away, and whose replica was killed before it was back"""


def call(name: str, end: str, at_s: float, **fields: object) -> Call:
    """A streamed call of five seconds on the replica that lives."""
    given = {
        "mark": f"mark-{name}",
        "tag": name,
        "key_id": "plain",
        "path": "/v1/chat/completions",
        "streamed": True,
        "replica": "gateway-0",
        "prompt_tokens_max": 40,
        "began_s": AT_S + at_s,
        "ended_s": AT_S + at_s + 5,
        "end": end,
        "end_user": name,
        **fields,
    }
    return Call(**given)  # type: ignore[arg-type]


def arrivals(count: int, at_s: float, per_s: float = 50.0) -> tuple[float, ...]:
    return tuple(AT_S + at_s + number / per_s for number in range(count))


def row_of(one: Call, status: str, prompt: int, completion: int, **fields: object) -> Row:
    key = next(key for key in KEYS if key.id == one.key_id)
    cost = TARIFF.cost(prompt, completion) if status == "ok" or completion else 0
    at_s = one.began_s + 0.01
    given = {
        "id": one.request_id or f"id-{one.tag}",
        "mark": one.mark,
        "key_id": one.key_id,
        "team_id": key.team_id,
        "created_s": at_s,
        "month": datetime.fromtimestamp(at_s, UTC).strftime("%Y%m"),
        "endpoint": one.path,
        "streamed": one.streamed,
        "end_user": one.end_user,
        "status": status,
        "http_status": 200,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "estimated": status in ("client_gone", "replica_lost"),
        "credits_micro": cost if key.metered else 0,
        "team_credits_micro": cost if key.team_metered else 0,
        **fields,
    }
    return Row(**given)  # type: ignore[arg-type]


def work_of(one: Call, prompt: int, sent: int, **fields: object) -> Work:
    return Work(node="node-0", tag=one.tag, prompt_tokens=prompt, tokens_sent=sent, **fields)  # type: ignore[arg-type]


def history() -> Ledgers:
    """A run with a call of each kind that adds up. It goes over the end of a month."""
    good = call("good", "finished", 0, status=200, request_id="id-1", arrivals=arrivals(9, 0), told=(20, 9))
    mute = call("mute", "finished", 1, status=200, key_id="metered", arrivals=arrivals(7, 1))
    whole = call("whole", "finished", 28, status=200, key_id="member", streamed=False, told=(20, 30))
    failed = call("failed", "failed", 3, status=502, code="backend_unreachable")
    midway = call("midway", "failed", 4, status=200, code="stream_broken", arrivals=arrivals(3, 4))
    refused = call("refused", "failed", 5, status=429, code="rate_limit_exceeded")
    unsure = call("unsure", "failed", 6, status=503, code="limits_unavailable")
    left = call("left", "left", 7, status=200, key_id="metered", arrivals=arrivals(5, 7))
    early = call("early", "left", 8)
    nowhere = call("nowhere", "unreached", 54, replica="gateway-1")
    broken = call("broken", "broken", 15.1, status=200, replica="gateway-2", arrivals=arrivals(200, 15.1))
    broken = replace(broken, key_id="metered")
    slow = call(
        "slow", "broken", 10, status=200, replica="gateway-2", arrivals=arrivals(60, 10, 6), ended_s=AT_S + 20.1
    )
    silent = call("silent", "broken", 49, replica="gateway-1", streamed=False)
    late = call(LATE, "finished", 46, status=200, replica="gateway-1", arrivals=arrivals(90, 46, 20), told=(20, 90))
    calls = (good, mute, whole, failed, midway, refused, unsure, left, early, nowhere, broken, slow, silent, late)
    rows = (
        row_of(good, "ok", 20, 9),
        row_of(mute, "ok", 20, 7),
        row_of(whole, "ok", 20, 30),
        row_of(failed, "backend_unreachable", 0, 0, http_status=502),
        row_of(midway, "stream_broken", 0, 0, http_status=502),
        row_of(left, "client_gone", 15, 6),
        row_of(broken, "replica_lost", 15, 192),
        row_of(slow, "replica_lost", 15, 30),
        row_of(silent, "replica_lost", 15, 0),
        row_of(late, "replica_lost", 15, 64),
    )
    works = (
        work_of(good, 20, 9, completed=True),
        work_of(mute, 20, 7, completed=True),
        work_of(whole, 20, 0, closed=False),
        work_of(whole, 20, 30, completed=True),
        work_of(midway, 20, 3, closed=False),
        work_of(left, 20, 8),
        work_of(broken, 20, 201),
        work_of(slow, 20, 61),
        work_of(silent, 20, 0),
        work_of(late, 20, 90, completed=True),
        Work(node="node-1", tag="", tokens_sent=1, completed=True),
    )
    return agreed(
        Ledgers(
            calls=calls, works=works, rows=rows, faults=(KILLED_ALONE, REDIS_DOWN, KILLED), keys=KEYS, tariff=TARIFF
        )
    )


def found(tag: str) -> Call:
    return next(one for one in history().calls if one.tag == tag)


def agreed(ledgers: Ledgers) -> Ledgers:
    """With sums that are those of the rows, so that a corruption is found by itself."""
    sums = summed(ledgers.rows)
    return replace(
        ledgers,
        sums=[("daily", key, one) for key, one in sums.items()],
        spent=[(key.id, _tokens(sums.get(key.id, Sums()))) for key in KEYS],
    )


def _tokens(sums: Sums) -> int:
    return sums.prompt_tokens + sums.completion_tokens
