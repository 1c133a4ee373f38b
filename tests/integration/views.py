"""What Redis shows of a key, against the model: its contents, what it tells a caller, what it explains to operators."""

from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from redis import Redis

from gateway.core import names
from gateway.core.call import Account, Call, Levels
from gateway.errors import KeysNotLoaded
from tests.buckets import kept
from tests.fakes import KEY, SOURCE, Bench, credential_of
from tests.integration.model import Model
from tests.integration.model_owner import Line, Owner, short_us, value
from tests.integration.model_scales import Ask
from tests.integration.refusals import TEAM

CREDENTIAL = credential_of(KEY)
KEY_ID, DIGEST = CREDENTIAL.key_id, CREDENTIAL.digests[0]


def name_of(owner: Owner, what: str) -> str:
    """The name in Redis of an owner's buckets, account or running calls."""
    return f"{{s00}}:team-{what}:{TEAM}" if owner.whose == "team" else f"{{s00}}:{what}:{KEY_ID}"


def done(coroutine: Any) -> Any:
    """The bench is synchronous underneath: nothing is ever waited for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


def check_contents(redis: Redis, model: Model, calls: dict[int, Call]) -> None:
    """All of Redis but the records."""
    owners = (model.key, model.team)
    pipeline = redis.pipeline(transaction=False)
    for owner in owners:
        pipeline.hgetall(name_of(owner, "buckets"))
        pipeline.hgetall(name_of(owner, "account"))
        pipeline.zrange(name_of(owner, "running"), 0, -1, withscores=True)
    pipeline.zrange("{s00}:leases", 0, -1, withscores=True)
    pipeline.hgetall(f"{{s00}}:outputs:{KEY_ID}")
    pipeline.xlen("{s00}:usage")
    pipeline.xrevrange("{s00}:usage", count=1)
    *of_owners, leases, outputs, events, last = pipeline.execute()
    for i, owner in enumerate(owners):
        buckets, account, running = of_owners[3 * i : 3 * i + 3]
        assert _buckets(buckets) == {name: (one.tokens, one.at, one.den) for name, one in owner.buckets.items()}
        assert _account(account) == _account_of(model, owner)
        assert dict(running) == {calls[n].id.encode(): at for n, at in owner.running.items()}
        assert owner.credit_held == sum(model.leases[n].credits.get(owner.whose, 0) for n in model.open)
        assert owner.credit_held >= 0
    assert dict(leases) == {f"{KEY_ID}:{calls[n].id}".encode(): model.leases[n].deadline_ms for n in model.open}
    assert outputs == {name.encode(): str(usual).encode() for name, usual in model.usual.items()}
    assert events == len(model.events)
    if last:
        assert last[0][1] == _event(calls, model.events[-1])


def _buckets(found: dict[bytes, bytes]) -> dict[str, tuple[Fraction, int, int]]:
    packed = {name.decode(): kept(one) for name, one in found.items()}
    return {name: (Fraction(one.level, one.den), one.at_us, one.den) for name, one in packed.items()}


def _account(found: dict[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(number) for name, number in found.items() if int(number)}


def _account_of(model: Model, owner: Owner) -> dict[str, int]:
    figures = {"charged": owner.charged, "credit_held": owner.credit_held}
    figures |= {f"spent:{month}": tokens for month, tokens in owner.spent.items()}
    figures |= {f"held:{month}": tokens for month, tokens in owner.held.items()}
    figures |= {f"shadow:{reason}": times for reason, times in owner.would.items()}
    if owner.whose == "key":
        figures[f"used:{DIGEST[:8]}"] = model.used_ms
    return {name: number for name, number in figures.items() if number}


def _event(calls: dict[int, Call], event: dict[str, Any]) -> dict[bytes, bytes]:
    told = {"v": "1", "id": calls[event["number"]].id, "key": KEY_ID, "team": TEAM if event["team"] else ""}
    told |= {name: str(event[name]) for name in ("at", "month", "prompt", "completion", "credits", "team_credits")}
    told |= {"estimated": event["estimated"], "detail": "{}"}
    return {name.encode(): text.encode() for name, text in told.items()}


def check_levels(model: Model, name: str, levels: Levels, *, known: bool = True) -> None:
    """What a reply tells of the limits: of each kind the one that has least left."""
    owners = model.owners if known else []
    check_levels_of(model, [(owner, line) for owner in owners for line in owner.lines(name)], levels)


def check_levels_of(model: Model, met: list[tuple[Owner, Line]], levels: Levels) -> None:
    for kind in ("requests", "tokens"):
        told = getattr(levels, kind)
        lines = [(owner, line) for owner, line in met if line.kind == kind]
        if not lines:
            assert told is None
            continue
        left = [max(0, floor(owner.look(line, model.now_us).tokens)) for owner, line in lines]
        owner, line = lines[left.index(min(left))]
        reset = short_us(owner.look(line, model.now_us), line, line.capacity, model.now_us)
        assert (told.limit, told.left, told.reset_ms) == (line.limit, min(left), ceil(reset / 1_000))


def check_statement(bench: Bench, model: Model) -> None:
    """What an operator, and the key's holder, is told."""
    told = done(bench.inspector.statement(KEY_ID))
    if model.known:
        assert done(bench.inspector.inspect(CREDENTIAL, SOURCE)) == told
    assert (told.month, told.models, told.team_id) == (model.month, model.globs, TEAM if model.in_team else "")
    accounts = [told.key, told.team] if model.in_team else [told.key]
    for owner, account in zip(model.owners, accounts, strict=True):
        _check_account(model, owner, account)


def _check_account(model: Model, owner: Owner, told: Account) -> None:
    month = model.month
    assert (told.tokens_spent, told.tokens_held) == (owner.spent.get(month, 0), owner.held.get(month, 0))
    assert (told.charged_micro, told.credit_held_micro) == (owner.charged, owner.credit_held)
    assert told.granted_micro == (owner.granted if owner.metered else None)
    assert told.monthly_tokens == value(owner.limits.monthly_token_limit)
    assert told.concurrency == value(owner.limits.concurrency)
    assert told.running == sum(at > model.now_ms for at in owner.running.values())
    assert told.shadow == owner.would
    lines = owner.lines(None)
    check_levels_of(model, [(owner, line) for line in lines if line.field == line.kind], told.levels)
    globs = {line.field.partition(" ")[2] for line in lines} - {""}
    assert {one.models for one in told.models} == globs
    for one in told.models:
        check_levels_of(model, [(owner, line) for line in lines if line.field.endswith(f" {one.models}")], one.levels)


def check_explanation(bench: Bench, model: Model, ask: Ask) -> None:
    """What an operator is told that admission would say is what it says."""
    verdict = model.weigh(ask)
    if verdict.reason == "not_ready":
        with pytest.raises(KeysNotLoaded):
            done(bench.inspector.explain(KEY_ID, ask.model, ask.estimate))
        return
    told = done(bench.inspector.explain(KEY_ID, ask.model, ask.estimate))
    if not names.allowed(model.globs, ask.model):
        assert (told.reason, told.whose) == ("model", "key")
        return
    assert (told.reason, told.wait_ms) == (verdict.reason, verdict.wait_ms)
    assert told.whose == (verdict.whose if verdict.reason else "")
    if not verdict.reason:
        assert (told.output_tokens_max, told.price_micro) == (verdict.output, verdict.worst)
    expected = [one for owner in model.owners for one in _limited(model, owner, ask)]
    assert [(one.whose, one.what, one.limit, one.left, one.wait_ms) for one in told.limits] == expected
    assert all(one.left_after == one.left - one.needed for one in told.limits)


def _limited(model: Model, owner: Owner, ask: Ask) -> list[tuple[str, str, int, int, int]]:
    found = []
    for line in owner.lines(ask.model):
        needed = model.expected(ask) if line.kind == "tokens" else 1
        left = floor(owner.look(line, model.now_us).tokens)
        found.append((owner.whose, line.field, line.limit, left, owner.wait_ms(line, needed, model.now_us)))
    if most := value(owner.limits.concurrency):
        alive = sum(at > model.now_ms for at in owner.running.values())
        found.append((owner.whose, "concurrency", most, most - alive, 0))
    if monthly := value(owner.limits.monthly_token_limit):
        left = monthly - owner.spent.get(model.month, 0) - owner.held.get(model.month, 0)
        found.append((owner.whose, "month", monthly, left, 0))
    if owner.metered:
        found.append((owner.whose, "credits", owner.granted, owner.free_credits(), 0))
    return found
