"""The store of keys: what goes in comes out, pages are whole, revoking is final, an outage is said to be one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.admin import cursor
from gateway.admin.credits import CreditStore, Grant
from gateway.admin.keys import KeyFilter, KeyStore
from gateway.admin.postgres import open_pool
from gateway.admin.prices import PriceStore
from gateway.admin.teams import TeamStore
from gateway.admin.tiers import TierStore
from gateway.core.limits import Limits, ModelLimits
from gateway.core.record import ApiKey, KeyRecord, Spent, Tier
from gateway.dev.postgres import EmbeddedPostgres
from gateway.errors import BadRequest, Conflict, IdempotencyMismatch, KeyNotFound, StoreUnavailable
from tests.integration.admin_objects import (
    AT_MS,
    BY,
    DEFAULTS,
    Stores,
    apart,
    beside,
    by,
    opened,
    record,
    secret,
    stored,
    team,
)
from tests.integration.usage_events import event
from workers.migrate import migrate
from workers.store import UsageStore

ALL = KeyFilter()


@pytest.fixture
async def stores(migrated_url: str) -> AsyncIterator[Stores]:
    async for one in opened(migrated_url):
        yield one


async def every(stores: Stores, wanted: KeyFilter = ALL, limit: int = 3) -> tuple[list[ApiKey], int]:
    """All keys, and how many pages they came in."""
    page = await stores.keys.page(wanted, None, limit)
    seen, pages = page.items, 1
    while page.after:
        page = await stores.keys.page(wanted, page.after, limit)
        seen, pages = seen + page.items, pages + 1
    return seen, pages


async def test_what_goes_in_comes_out(stores: Stores) -> None:
    owner = (await stores.teams.create(BY, team(1), None)).what
    (fitting,) = beside(owner)
    full = replace(
        fitting,
        secrets=(secret(7, pepper_id="0a1b2c3d"), secret(6, expires_at_ms=AT_MS + 9)),
        limits=Limits(
            rate_limit_per_min=1,
            burst=2,
            tokens_per_min=3,
            concurrency=None,
            monthly_token_limit=4,
            model_limits={"llama3*": ModelLimits(tokens_per_min=5), "*": ModelLimits()},
        ),
        tier="premium",
        team_id=owner.id,
        scopes=("inference", "pull"),
        models=("llama3*", "qwen3:8b"),
        networks=("10.0.0.0/8", "2001:db8::/32"),
        shadow=True,
        metered=True,
        expires_at_ms=AT_MS + 86_400_001,
        enabled=False,
    )
    for key in (record(900_000), full):
        made = await stores.keys.create(BY, key, None)
        assert (made.what, made.again) == (stored(key, made.what), False)
        assert await stores.keys.get(key.id) == made.what
    with pytest.raises(KeyNotFound):
        await stores.keys.get("nobody")


async def test_first_credits_are_the_first_grant(stores: Stores) -> None:
    key = (await stores.keys.create(BY, record(1), 2_500_000)).what
    assert (key.metered, key.granted_micro, key.version) == (True, 2_500_000, 1)
    (grant,) = (await stores.credits.page(key.id, None, None, 10)).items
    assert (grant.id, grant.amount_micro, grant.granted_by) == ("opening-key00001", 2_500_000, "admin")
    broke = (await stores.keys.create(BY, record(2), 0)).what
    assert (broke.metered, broke.granted_micro) == (True, 0)
    assert (await stores.credits.page(broke.id, None, None, 10)).items == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "key00001"}, "api_keys_pkey"),
        ({"secrets": (secret(1),)}, "api_key_secrets_digest_unique"),
        ({"label": "NUL \0"}, "22021"),
        ({"label": "half a surrogate \ud800"}, "22000"),
        ({"label": "x" * 501}, "api_keys_label_short"),
        ({"limits": Limits(rate_limit_per_min=0)}, "api_keys_limits_form"),
        ({"limits": Limits(tokens_per_min=2**62)}, "api_keys_limits_form"),
        ({"limits": Limits(model_limits={"a b": ModelLimits()})}, "api_keys_limits_form"),
        ({"networks": ("nowhere",)}, "api_keys_networks_form"),
        ({"scopes": ()}, "api_keys_scopes_known"),
        ({"team_id": "key00002"}, "api_keys_team_exists"),
        ({"tier": "gold"}, "no such tier"),
        ({"expires_at_ms": 2**60}, "between the years"),
    ],
)
async def test_what_no_row_can_hold_is_the_clients_mistake(
    stores: Stores, changes: dict[str, Any], reason: str
) -> None:
    await stores.keys.create(BY, record(1), None)
    with pytest.raises(BadRequest, match=reason):
        await stores.keys.create(BY, record(2, **changes), None)
    assert len(await stores.entries()) == 1


async def test_revoking_is_final_and_can_be_repeated(stores: Stores) -> None:
    await stores.keys.create(BY, record(1), None)
    revoked = await stores.keys.revoke(BY, "key00001")
    assert revoked == stored(record(1, enabled=False, version=2), revoked)
    assert revoked.revoked_at_ms
    assert await stores.keys.revoke(BY, "key00001") == revoked
    for nobody in ("nobody", "nobody\0", "½", ""):
        with pytest.raises(KeyNotFound):
            await stores.keys.revoke(BY, nobody)
    twice = await asyncio.gather(*(stores.keys.revoke(BY, "key00001") for _ in range(8)))
    assert twice == [revoked] * 8
    assert [entry.action for entry in await stores.entries("key:key00001")] == ["create", "revoke"]
    with pytest.raises(Conflict, match="revoked"):
        await stores.keys.change(BY, "key00001", lambda key: replace(key, enabled=True))
    with pytest.raises(Conflict, match="revoked"):
        await stores.keys.rotate(BY, "key00001", secret(5), 60)
    assert (await stores.keys.change(BY, "key00001", lambda key: replace(key, label="gone"))).label == "gone"


async def test_pages_hold_every_key_once_newest_first(stores: Stores) -> None:
    keys = [record(number, created_at_ms=AT_MS + number // 2) for number in range(9)]  # pairs of the same time
    for key in keys:
        await stores.keys.create(BY, key, None)
    seen, pages = await every(stores)
    expected = sorted(keys, key=lambda key: (key.created_at_ms, key.id), reverse=True)
    assert [key.id for key in seen] == [key.id for key in expected]
    assert pages == 3


async def test_filters_narrow_what_is_seen(stores: Stores) -> None:
    owner = (await stores.teams.create(BY, team(1), None)).what
    (fitting,) = beside(owner)
    await stores.keys.create(BY, replace(fitting, team_id=owner.id), None)
    await stores.keys.create(BY, record(900_001, label="Nightly build", owner_email="Ops@example.org"), None)
    await stores.keys.create(BY, record(900_002, tier="basic"), None)
    await stores.keys.revoke(BY, "key900002")
    for wanted, expected in (
        (KeyFilter(label="nightly"), ["key900001"]),
        (KeyFilter(label="%"), []),
        (KeyFilter(owner_email="ops@EXAMPLE.org"), ["key900001"]),
        (KeyFilter(owner_email="ops"), []),
        (KeyFilter(team_id=owner.id), [fitting.id]),
        (KeyFilter(tier="basic"), ["key900002"]),
        (KeyFilter(enabled=False), ["key900002"]),
        (KeyFilter(enabled=True), ["key900001", fitting.id]),
        (KeyFilter(enabled=True, tier="basic"), []),
        (KeyFilter(label="\0"), []),
    ):
        assert [key.id for key in (await every(stores, wanted))[0]] == expected, wanted


@pytest.mark.parametrize(
    "text",
    ["", "x", "1-", "1-a'b", "9" * 400, "²", cursor.write(1, ""), cursor.write(-1, "a"), cursor.write(10**40, "a")],
)
async def test_a_false_cursor_is_the_clients_mistake(stores: Stores, text: str) -> None:
    for ask in (
        stores.keys.page(ALL, text, 10),
        stores.teams.page(text, 10),
        stores.prices.page(None, text, 10),
        stores.credits.page(None, None, text, 10),
        stores.credits.sums(text, "202611"),
        stores.audit.page(None, None, None, text, 10),
    ):
        with pytest.raises(BadRequest, match="cursor"):
            await ask


async def test_a_cursor_of_something_else_finds_nothing_it_should_not(stores: Stores) -> None:
    for text in (cursor.write(1, "a'b"), cursor.write(1, "%"), cursor.write(0, "--")):
        assert (await stores.keys.page(ALL, text, 10)).items == []
        for ask in (stores.audit.page(None, None, None, text, 10), stores.credits.sums(text, "202611")):
            with pytest.raises(BadRequest, match="cursor"):
                await ask


async def test_changes_come_in_the_order_they_were_made(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "PAGE_ROWS", 2)
    keys = stores.keys
    for number in range(5):
        await keys.create(BY, record(number), None)
    began_us = await keys.now_us()
    assert (await keys.changed_since(began_us)).items == []
    await keys.revoke(BY, "key00003")
    await keys.rotate(BY, "key00000", secret(70), 60)
    assert [key.id for key in (await keys.changed_since(began_us)).items] == ["key00003", "key00000"]
    page = await keys.changed_since(0)
    seen = page.items
    while page.after:
        page = await keys.changed_since(0, page.after)
        seen += page.items
    assert [key.id for key in seen] == ["key00001", "key00002", "key00004", "key00003", "key00000"]
    assert len(seen[-1].secrets) == 2


async def test_a_change_is_made_of_what_is_there_by_one_at_a_time(stores: Stores) -> None:
    await stores.keys.create(BY, record(1, label=""), None)
    changed = await asyncio.gather(
        *(stores.keys.change(BY, "key00001", lambda key: replace(key, label=key.label + "x")) for _ in range(12))
    )
    assert sorted(len(key.label) for key in changed) == list(range(1, 13))
    assert (await stores.keys.get("key00001")).version == 13
    entries = (await stores.entries("key:key00001"))[1:]
    assert [(e.before, e.after) and (len(e.before["label"]), len(e.after["label"])) for e in entries] == [  # type: ignore[index]
        (number, number + 1) for number in range(12)
    ]


async def test_an_edit_changes_only_what_is_its_to_change(stores: Stores) -> None:
    made = (await stores.keys.create(BY, record(1), 5_000_000)).what
    unchanged = await stores.keys.change(
        BY,
        made.id,
        lambda key: replace(
            key,
            id="other",
            secrets=(),
            version=99,
            granted_micro=10**9,
            created_at_ms=0,
            updated_at_ms=0,
            revoked_at_ms=1,
        ),
    )
    assert unchanged == made == await stores.keys.get(made.id)
    assert [entry.action for entry in await stores.entries()] == ["create"]
    with pytest.raises(KeyNotFound):
        await stores.keys.change(BY, "nobody", lambda key: key)


async def test_an_edit_that_raises_leaves_everything_as_it_was(stores: Stores) -> None:
    made = (await stores.keys.create(BY, record(1), None)).what

    def objecting(key: ApiKey) -> ApiKey:
        raise BadRequest("no")

    with pytest.raises(BadRequest, match="no"):
        await stores.keys.change(BY, made.id, objecting)
    with pytest.raises(BadRequest, match="api_keys_models_form"):
        await stores.keys.change(BY, made.id, lambda key: replace(key, models=("a b",)))
    assert await stores.keys.get(made.id) == made
    assert len(await stores.entries()) == 1


async def test_a_key_joins_only_a_team_of_its_shard(stores: Stores) -> None:
    owner = (await stores.teams.create(BY, team(1), None)).what
    (near,), far = beside(owner), apart(owner)
    with pytest.raises(Conflict, match="shard"):
        await stores.keys.create(BY, replace(far, team_id=owner.id), None)
    await stores.keys.create(BY, far, None)
    await stores.keys.create(BY, near, None)
    with pytest.raises(Conflict, match="shard"):
        await stores.keys.change(BY, far.id, lambda key: replace(key, team_id=owner.id))
    assert (await stores.keys.change(BY, near.id, lambda key: replace(key, team_id=owner.id))).team_id == owner.id


async def test_a_rotated_key_has_two_secrets_for_a_while_and_one_id(stores: Stores) -> None:
    first = (await stores.keys.create(BY, record(1), None)).what
    began_ms = await stores.keys.now_us() // 1000
    second = (await stores.keys.rotate(BY, first.id, secret(2), 3_600)).what
    assert [one.digest for one in second.secrets] == [secret(2).digest, secret(1).digest]
    assert second.version > first.version
    fresh, old = second.secrets
    assert fresh.expires_at_ms is None
    assert old.expires_at_ms and 3_600_000 <= old.expires_at_ms - began_ms < 3_700_000
    fourth = (await stores.keys.rotate(BY, first.id, secret(4), 0)).what
    assert [one.digest for one in fourth.secrets] == [secret(4).digest]
    with pytest.raises(BadRequest, match="api_key_secrets_digest_unique"):
        await stores.keys.rotate(BY, first.id, secret(4), 60)
    with pytest.raises(KeyNotFound):
        await stores.keys.rotate(BY, "nobody", secret(5), 60)


async def test_a_further_rotation_never_ends_a_secret_in_use_unannounced(stores: Stores) -> None:
    key = (await stores.keys.create(BY, record(1), None)).what
    second = (await stores.keys.rotate(BY, key.id, secret(2), 3_600)).what
    until_ms = second.secrets[1].expires_at_ms or 0
    until = datetime.fromtimestamp(until_ms // 1000, UTC).isoformat()
    for unused in ("", secret(1).digest, secret(3).digest):
        with pytest.raises(Conflict, match="overlap_seconds") as refused:
            await stores.keys.rotate(BY, key.id, secret(3), 60, unused)
        assert until in refused.value.message
        assert await stores.keys.get(key.id) == second

    began_ms = await stores.keys.now_us() // 1000
    third = (await stores.keys.rotate(BY, key.id, secret(3), 86_400, secret(2).digest)).what
    assert [one.digest for one in third.secrets] == [secret(3).digest, secret(1).digest]
    assert third.secrets[0].expires_at_ms is None
    assert 86_400_000 <= (third.secrets[1].expires_at_ms or 0) - began_ms < 86_500_000
    last = (await stores.keys.rotate(BY, key.id, secret(4), 0)).what
    assert [one.digest for one in last.secrets] == [secret(4).digest]


async def test_a_secret_that_has_ended_does_not_come_back(stores: Stores) -> None:
    ended = secret(1, expires_at_ms=AT_MS + 1)
    key = (await stores.keys.create(BY, record(1, secrets=(secret(2), ended)), None)).what
    rotated = (await stores.keys.rotate(BY, key.id, secret(3), 10**6)).what
    assert [one.digest for one in rotated.secrets] == [secret(3).digest, secret(2).digest]


async def test_an_expired_key_is_not_rotated(stores: Stores) -> None:
    key = (await stores.keys.create(BY, record(1, expires_at_ms=AT_MS + 1), None)).what
    with pytest.raises(Conflict, match="expired"):
        await stores.keys.rotate(BY, key.id, secret(2), 0)
    await stores.keys.change(BY, key.id, lambda one: replace(one, expires_at_ms=None))
    assert (await stores.keys.rotate(BY, key.id, secret(2), 0)).what.secrets[0].digest == secret(2).digest


async def test_rotations_at_once_leave_two_secrets(stores: Stores) -> None:
    key = (await stores.keys.create(BY, record(1), None)).what
    done = await asyncio.gather(
        *(stores.keys.rotate(BY, key.id, secret(n), 60) for n in range(2, 8)), return_exceptions=True
    )
    assert sum(isinstance(one, Conflict) for one in done) == 5
    rotated = await stores.keys.get(key.id)
    assert len(rotated.secrets) == 2
    assert len({one.digest for one in rotated.secrets}) == 2
    assert rotated.secrets[0].expires_at_ms is None and rotated.secrets[1].expires_at_ms is not None


async def test_the_audit_log_has_every_change_and_no_digest(stores: Stores) -> None:
    key = (await stores.keys.create(BY, record(1), 1_500_000)).what
    someone = replace(BY, name="somebody", request_id="request-2")
    await stores.keys.change(someone, key.id, lambda one: replace(one, limits=Limits(concurrency=None)), "limit")
    await stores.keys.rotate(BY, key.id, secret(2, last_four="1234"), 60)
    await stores.keys.revoke(BY, key.id)
    create, limit, rotate, revoke = await stores.entries("key:key00001")
    assert [entry.action for entry in (create, limit, rotate, revoke)] == ["create", "limit", "rotate", "revoke"]
    assert create.before is None and create.after and limit.before and limit.after and rotate.after and revoke.after
    assert create.after["credits_granted"] == 1.5
    assert create.after["created_at"] == "2026-11-21T20:25:35.108000Z"
    assert create.after["expires_at"] is None
    assert (limit.actor, limit.request_id) == ("somebody", "request-2")
    assert (limit.before["limits"], limit.after["limits"]) == ({}, {"concurrency": None})
    assert [one["last_four"] for one in rotate.after["secrets"]] == ["1234", "wxyz"]
    assert (revoke.after["enabled"], create.after["enabled"]) == (False, True)
    texts = await stores.value("SELECT string_agg(audit_log::text, ' ') FROM audit_log")
    assert not any(secret(n).digest[:16] in texts for n in (1, 2))


async def test_a_request_that_is_sent_again_is_carried_out_once(stores: Stores) -> None:
    first = await stores.keys.create(by("k1"), record(1), 1_000_000)
    await stores.keys.change(BY, "key00001", lambda key: replace(key, label="since then"))
    again = await stores.keys.create(by("k1"), record(2), 1_000_000)
    assert (first.again, again.again) == (False, True)
    assert (again.what.id, again.what.label) == ("key00001", "since then")
    with pytest.raises(KeyNotFound):
        await stores.keys.get("key00002")
    with pytest.raises(IdempotencyMismatch):
        await stores.keys.create(by("k1", "other"), record(2), None)
    rotated = await stores.keys.rotate(by("k2"), "key00001", secret(5), 60)
    assert (await stores.keys.rotate(by("k2"), "key00001", secret(6), 60)) == replace(rotated, again=True)


async def test_a_request_that_fails_does_not_use_up_its_idempotency_key(stores: Stores) -> None:
    with pytest.raises(BadRequest):
        await stores.keys.create(by("k1"), record(1, tier="gold"), None)
    assert not (await stores.keys.create(by("k1"), record(1), None)).again


async def test_the_same_request_at_once_makes_one_key(stores: Stores) -> None:
    made = await asyncio.gather(*(stores.keys.create(by("k1"), record(n), None) for n in range(8)))
    assert sorted(one.again for one in made) == [False] + [True] * 7
    assert len({one.what.id for one in made}) == 1
    assert len((await every(stores))[0]) == len(await stores.entries()) == 1


async def test_records_are_what_key_tier_and_defaults_say_together(stores: Stores) -> None:
    limits = Limits(tokens_per_min=500, rate_limit_per_min=None)
    await stores.tiers.create(BY, Tier(name="lab", multiplier_milli=1_500, limits=limits))
    plain = (await stores.keys.create(BY, record(1), None)).what
    tiered = (await stores.keys.create(BY, record(2, tier="lab", limits=Limits(tokens_per_min=7)), None)).what
    assert await stores.keys.records([plain, tiered]) == [
        KeyRecord(plain, DEFAULTS, 1_000),
        KeyRecord(tiered, Limits(rate_limit_per_min=None, tokens_per_min=7, monthly_token_limit=1_000_000), 1_500),
    ]
    assert await stores.keys.records([]) == []


async def test_what_keys_and_teams_have_spent_is_added_up_by_month_and_ever(stores: Stores) -> None:
    old = event(1, key_id="a", month="202610", prompt_tokens=1, completion_tokens=2, credits_micro=10)
    new = [
        event(
            n,
            key_id="a",
            month="202611",
            prompt_tokens=10,
            completion_tokens=20,
            credits_micro=5,
            team_id="t",
            team_credits_micro=3,
        )
        for n in (2, 3)
    ]
    other = event(4, key_id="b", month="202610", credits_micro=7, team_id="t", team_credits_micro=4)
    await UsageStore(stores.postgres).insert([old, *new, other])
    assert await stores.keys.spent(["a", "b", "c"], "202611") == {
        "a": Spent(month="202611", tokens=60, credits_micro=20),
        "b": Spent(month="202611", tokens=0, credits_micro=7),
        "c": Spent(month="202611"),
    }
    assert await stores.keys.spent([], "202611") == {}
    assert await stores.teams.spent(["t", "u"], "202611") == {
        "t": Spent(month="202611", tokens=60, credits_micro=10),
        "u": Spent(month="202611"),
    }


async def test_the_stores_open_while_postgres_is_down_and_work_when_it_is_up(short_dir: Path) -> None:
    server = EmbeddedPostgres(short_dir / "p", fsync=False)
    postgres = await open_pool(server.url, connections_max=2)
    keys = KeyStore(postgres, Limits(), 1)
    for ask in (
        keys.get("a"),
        keys.page(ALL, None, 10),
        keys.create(BY, record(1), None),
        keys.revoke(BY, "a"),
        keys.spent(["a"], "202611"),
        TeamStore(postgres).get("a"),
        TierStore(postgres).all(),
        PriceStore(postgres).price_list(),
        CreditStore(postgres).grant(BY, Grant(id="g", key_id="a", amount_micro=1)),
    ):
        with pytest.raises(StoreUnavailable):
            await ask
    await server.start()
    try:
        await migrate(server.url)
        made = (await keys.create(BY, record(1), None)).what
        await server.kill()
        with pytest.raises(StoreUnavailable):
            await keys.get("key00001")
        await server.start()
        assert await keys.get("key00001") == made
    finally:
        await postgres.close()
        await server.stop()


async def test_a_lock_held_by_somebody_else_is_waited_for_only_so_long(stores: Stores, migrated_url: str) -> None:
    made = (await stores.keys.create(BY, record(1), None)).what
    holder = await asyncpg.connect(migrated_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable):
            await stores.keys.get("key00001")
    await holder.close()
    assert await stores.keys.get("key00001") == made


async def test_nothing_is_left_in_the_session(migrated_url: str) -> None:
    """A transaction-mode pooler hands the session on after each transaction."""
    postgres = await open_pool(migrated_url, connections_max=1)
    try:
        await KeyStore(postgres, Limits(), 1).create(BY, record(1), None)
        async with postgres.transaction() as connection:
            inside = await connection.fetchval("SELECT current_setting('statement_timeout')")
            prepared = await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
        raw = postgres._pool
        async with raw.acquire() as connection:
            outside = await connection.fetchval("SELECT current_setting('statement_timeout')")
        assert (inside, outside, prepared) == ("5s", "0", 0)
    finally:
        await postgres.close()
