"""The store of keys: what goes in comes out, pages are whole, revoking is final, an outage is said to be one."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest

from gateway.admin import store as store_module
from gateway.admin.store import KeyStore, open_pool
from gateway.core.limits import Limits
from gateway.core.record import KeyRecord, Spent
from gateway.dev.postgres import EmbeddedPostgres
from gateway.errors import BadRequest, StoreUnavailable
from tests.integration.usage_events import event
from workers.migrate import migrate
from workers.store import UsageStore

AT_MS = 1_795_292_735_107


def record(number: int, **changes: object) -> KeyRecord:
    fields: dict[str, object] = {
        "id": f"key{number:05d}",
        "digest": sha256(str(number).encode()).hexdigest(),
        "last_four": "wxyz",
        "label": "Büro 🦙",
        "owner_email": "someone@example.org",
        "enabled": True,
        "version": 1,
        "limits": Limits(requests_per_min=20),
        "created_at_ms": AT_MS + number,
    }
    return KeyRecord(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[KeyStore]:
    await migrate(database_url)
    postgres = await open_pool(database_url)
    yield KeyStore(postgres)
    await postgres.close()


async def test_what_goes_in_comes_out(store: KeyStore) -> None:
    plain = record(1)
    full = record(
        2,
        limits=Limits(requests_per_min=1, tokens_per_min=2, concurrency=3, monthly_tokens=4, credits_micro=2**53 - 1),
        expires_at_ms=AT_MS + 86_400_001,
        enabled=False,
    )
    for key in (plain, full):
        assert await store.create(key) == key
        assert await store.get(key.id) == key
    assert await store.get("nobody") is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "key00001"}, "api_keys_pkey"),
        ({"digest": record(1).digest}, "api_keys_digest_unique"),
        ({"label": "NUL \0"}, "22021"),
        ({"label": "half a surrogate \ud800"}, "22000"),
        ({"label": "x" * 501}, "api_keys_label_short"),
        ({"limits": Limits(requests_per_min=0)}, "api_keys_rate_limit_per_min_range"),
        ({"limits": Limits(requests_per_min=2**40)}, "22000"),
    ],
)
async def test_what_no_row_can_hold_is_the_clients_mistake(
    store: KeyStore, changes: dict[str, object], reason: str
) -> None:
    await store.create(record(1))
    with pytest.raises(BadRequest, match=reason):
        await store.create(record(2, **changes))


async def test_revoking_is_final_and_can_be_repeated(store: KeyStore) -> None:
    await store.create(record(1))
    revoked = await store.revoke("key00001")
    assert revoked == record(1, enabled=False, version=2)
    assert await store.revoke("key00001") == revoked
    assert await store.revoke("nobody") is None
    assert await store.revoke("nobody\0") is None
    twice = await asyncio.gather(*(store.revoke("key00001") for _ in range(8)))
    assert twice == [revoked] * 8


async def test_pages_hold_every_key_once_newest_first(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE_ROWS", 3)
    keys = [record(number, created_at_ms=AT_MS + number // 2) for number in range(8)]  # pairs of the same time
    for key in keys:
        await store.create(key)
    seen, after = await store.page(None)
    pages = 1
    while after:
        page, after = await store.page(after)
        seen, pages = seen + page, pages + 1
    assert seen == sorted(keys, key=lambda key: (key.created_at_ms, key.id), reverse=True)
    assert pages == 3


@pytest.mark.parametrize("cursor", ["x", "1-", "-a", "1-a'b", "9" * 99 + "-a", "9" * 40 + "-a", "²-a", "1-a\0"])
async def test_a_false_cursor_is_the_clients_mistake(store: KeyStore, cursor: str) -> None:
    with pytest.raises(BadRequest, match="cursor"):
        await store.page(cursor)


async def test_changes_come_in_the_order_they_were_made(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE_ROWS", 2)
    for number in range(5):
        await store.create(record(number))
    began_us = await store.now_us()
    assert (await store.changed_since(began_us)).keys == []
    await store.revoke("key00003")
    await store.revoke("key00000")
    assert [key.id for key in (await store.changed_since(began_us)).keys] == ["key00003", "key00000"]
    page = await store.changed_since(0)
    seen = page.keys
    while page.after:
        page = await store.changed_since(0, page.after)
        seen += page.keys
    assert [key.id for key in seen] == ["key00001", "key00002", "key00004", "key00003", "key00000"]


async def test_what_keys_have_spent_is_added_up_by_month_and_ever(store: KeyStore, database_url: str) -> None:
    postgres = await open_pool(database_url)
    old = event(1, key_id="a", month="202610", prompt_tokens=1, completion_tokens=2, credits_micro=10)
    new = [
        event(n, key_id="a", month="202611", prompt_tokens=10, completion_tokens=20, credits_micro=5) for n in (2, 3)
    ]
    await UsageStore(postgres).insert([old, *new, event(4, key_id="b", month="202610", credits_micro=7)])
    await postgres.close()
    assert await store.spent(["a", "b", "c"], "202611") == {
        "a": Spent(month="202611", tokens=60, credits_micro=20),
        "b": Spent(month="202611", tokens=0, credits_micro=7),
        "c": Spent(month="202611"),
    }
    assert await store.spent([], "202611") == {}


async def test_the_store_opens_while_postgres_is_down_and_works_when_it_is_up(short_dir: Path) -> None:
    server = EmbeddedPostgres(short_dir / "p", fsync=False)
    postgres = await open_pool(server.url, connections_max=2)
    store = KeyStore(postgres)
    for ask in (
        store.get("a"),
        store.page(None),
        store.create(record(1)),
        store.revoke("a"),
        store.spent(["a"], "202611"),
    ):
        with pytest.raises(StoreUnavailable):
            await ask
    await server.start()
    try:
        await migrate(server.url)
        await store.create(record(1))
        await server.kill()
        with pytest.raises(StoreUnavailable):
            await store.get("key00001")
        await server.start()
        assert await store.get("key00001") == record(1)
    finally:
        await postgres.close()
        await server.stop()


async def test_a_lock_held_by_somebody_else_is_waited_for_only_so_long(store: KeyStore, database_url: str) -> None:
    await store.create(record(1))
    holder = await asyncpg.connect(database_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable):
            await store.get("key00001")
    await holder.close()
    assert await store.get("key00001") == record(1)


async def test_nothing_is_left_in_the_session(database_url: str) -> None:
    """A transaction-mode pooler hands the session on after each transaction."""
    await migrate(database_url)
    postgres = await open_pool(database_url, connections_max=1)
    try:
        await KeyStore(postgres).get("a")
        async with postgres.transaction() as connection:
            inside = await connection.fetchval("SELECT current_setting('statement_timeout')")
            prepared = await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
        raw = postgres._pool
        async with raw.acquire() as connection:
            outside = await connection.fetchval("SELECT current_setting('statement_timeout')")
        assert (inside, outside, prepared) == ("5s", "0", 0)
    finally:
        await postgres.close()
