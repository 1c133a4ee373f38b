"""The database: schema.sql says what the migrations do, every statement is valid, migrating is safe to repeat."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

import sql
from gateway.admin.row import limits_json
from gateway.core import fleet
from gateway.core.addresses import network
from gateway.core.limits import (
    CONCURRENCY_MAX,
    GLOB_CHARS_MAX,
    MODEL_LIMITS_MAX,
    MONTHLY_TOKENS_MAX,
    PER_MINUTE_MAX,
    Limits,
    ModelLimits,
    said,
)
from gateway.dev.engines import Server
from gateway.errors import StoreUnavailable
from tests.conftest import new_database
from workers.migrate import MigrationRefused, migrate

CATALOG = """
WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'dashboard'))
SELECT 'column' AS kind, c.oid::regclass || '.' || a.attname AS name,
       concat_ws(' ', row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
                 pg_get_expr(d.adbin, d.adrelid)) AS definition
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace IN (SELECT oid FROM ours) AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v')
UNION ALL
SELECT 'relation', oid::regclass::text, concat_ws(' ', relkind, relrowsecurity, relforcerowsecurity, reloptions, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), pg_get_viewdef(oid))
  FROM pg_class WHERE relnamespace IN (SELECT oid FROM ours)
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace IN (SELECT oid FROM ours)
UNION ALL
SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours)
UNION ALL
SELECT 'trigger', tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE NOT tgisinternal
UNION ALL
SELECT 'policy', polrelid::regclass || '.' || polname, concat_ws(' ', polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
  FROM pg_policy
UNION ALL
SELECT 'grant', granted.what, concat_ws(' ', one.privilege_type, CASE one.grantee WHEN 0 THEN 'PUBLIC' ELSE one.grantee::regrole::text END, one.is_grantable)
  FROM (SELECT oid::regclass::text, relacl FROM pg_class WHERE relnamespace IN (SELECT oid FROM ours)
        UNION ALL SELECT oid::regprocedure::text, proacl FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours)
        UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE oid IN (SELECT oid FROM ours)) AS granted (what, acl),
       LATERAL aclexplode(acl) AS one
ORDER BY 1, 2, 3
"""  # noqa: E501
KINDS = {"column", "relation", "index", "constraint", "function", "trigger", "policy", "grant"}


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def another(url: str) -> AsyncIterator[str]:
    """A second empty database on the same server."""
    name = urlsplit(url).path[1:] + "_2"
    async with connected(url) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a migrated database."""
    async with connected(migrated_url) as connection:
        yield connection


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_url(postgres_server: Server, template: str) -> AsyncIterator[str]:
    async with new_database(postgres_server, f"TEMPLATE {template}") as url:
        yield url


@pytest.fixture
async def undone(shared_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a migrated database of which nothing stays: at most its last statement may fail."""
    async with connected(shared_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


async def test_the_schema_file_is_what_the_migrations_lead_to(database_url: str) -> None:
    await migrate(database_url)
    async with another(database_url) as url, connected(database_url) as by_steps, connected(url) as at_once:
        await at_once.execute(sql.schema())
        expected = [tuple(row) for row in await by_steps.fetch(CATALOG)]
        assert [tuple(row) for row in await at_once.fetch(CATALOG)] == expected
        assert {kind for kind, _, _ in expected} == KINDS


@pytest.mark.parametrize("name", sql.queries())
async def test_every_statement_is_valid(undone: asyncpg.Connection, name: str) -> None:
    assert await undone.prepare(sql.queries()[name])


async def test_migrating_twice_or_all_at_once_applies_each_step_once(database_url: str) -> None:
    outcomes = await asyncio.gather(*(migrate(database_url) for _ in range(5)))
    names = [step.name for step in sql.migrations()]
    assert sorted(name for outcome in outcomes for name in outcome) == names
    assert await migrate(database_url) == []
    async with connected(database_url) as connection:
        assert [row[0] for row in await connection.fetch("SELECT name FROM gateway_migrations ORDER BY 1")] == names


async def test_a_newer_or_changed_database_is_refused(database: asyncpg.Connection, migrated_url: str) -> None:
    await database.execute("INSERT INTO gateway_migrations VALUES ('9999_future', '?')")
    with pytest.raises(MigrationRefused, match="9999_future"):
        await migrate(migrated_url)
    await database.execute("DELETE FROM gateway_migrations WHERE name = '9999_future'")
    await database.execute("UPDATE gateway_migrations SET checksum = 'other' WHERE name = '0001_initial'")
    with pytest.raises(MigrationRefused, match="0001_initial"):
        await migrate(migrated_url)


async def test_a_step_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = sql.Migration("0001_initial", "CREATE TABLE half (n int); SELECT 1 / 0;")
    monkeypatch.setattr(sql, "migrations", lambda: [broken])
    with pytest.raises(MigrationRefused, match="0001_initial cannot be applied: division by zero"):
        await migrate(database_url)
    monkeypatch.undo()
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await migrate(database_url)


async def test_an_objection_of_postgres_is_told_in_its_words(database_url: str) -> None:
    with pytest.raises(MigrationRefused, match="does not exist"):
        await migrate(urlsplit(database_url)._replace(path="/nowhere").geturl())


async def test_a_database_that_is_away_is_said_to_be_away(short_dir: str) -> None:
    with pytest.raises(StoreUnavailable):
        await migrate(f"postgresql://postgres@/gateway?host={short_dir}")


def month(day: date, offset: int) -> date:
    index = day.year * 12 + day.month - 1 + offset
    return date(index // 12, index % 12 + 1, 1)


INSERT = """
INSERT INTO usage_logs (id, api_key_id, model, prompt_tokens, completion_tokens, endpoint, response_time_ms, created_at,
    month, credits_micro, estimated, status, http_status, backend, streamed, finish_reason, first_token_ms, load_ms,
    prompt_ms, eval_ms, end_user)
VALUES (gen_random_uuid(), 'k', 'm', 2147483647, 2147483647, '/', 1, $1, '202611', 0, false, 'ok', 200, 'b', false, '',
    0, 0, 0, 0, '')
"""


async def test_a_month_gets_its_partition_with_the_rows_that_came_before_it(database: asyncpg.Connection) -> None:
    since = datetime(2031, 12, 1, tzinfo=UTC)
    until = datetime(2032, 1, 1, tzinfo=UTC)
    edge = timedelta(microseconds=1)
    for at in (since - edge, since, until - edge, until):
        await database.execute(INSERT, at)
    assert await database.fetchval("SELECT count(*) FROM usage_logs_default") == 4
    assert await database.fetchval("SELECT make_usage_partition('2031-12-17')") is True
    assert await database.fetchval("SELECT make_usage_partition('2031-12-01')") is False
    await database.execute(INSERT, since + timedelta(days=3))
    assert await database.fetchval("SELECT count(*) FROM usage_logs_203112") == 3
    assert await database.fetchval("SELECT count(*) FROM usage_logs_default") == 2
    assert await database.fetchval("SELECT count(*) FROM usage_logs") == 5
    assert await database.fetchval("SELECT max(total_tokens) FROM usage_logs") == 2 * (2**31 - 1)
    indexes = await database.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'usage_logs_203112'")
    assert len(indexes) == 4


async def test_partitions_are_cut_at_midnight_utc_whatever_the_session_thinks(database: asyncpg.Connection) -> None:
    await database.execute("SET timezone = 'Pacific/Auckland'")
    assert await database.fetchval("SELECT make_usage_partition('2031-05-31')")
    await database.execute("SET timezone = 'UTC'")
    bound = await database.fetchval(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'usage_logs_203105'"
    )
    assert bound == "FOR VALUES FROM ('2031-05-01 00:00:00+00') TO ('2031-06-01 00:00:00+00')"


KEY = "INSERT INTO api_keys (id) VALUES ('a')"
SECRET = "INSERT INTO api_key_secrets (api_key_id, digest, last_four) VALUES ('a', repeat('0', 64), 'abcd')"
BACKEND = "INSERT INTO backends (name, url) VALUES ('n', 'http://n:1')"
ALIAS = "INSERT INTO model_aliases (name, targets) VALUES ('fast:latest', '{llama3.2:3b}')"
TEAM = "INSERT INTO teams (id) VALUES ('t')"
GRANT = "INSERT INTO credit_grants (id, api_key_id, amount_micro, granted_by) VALUES ('g', 'a', 5, 'admin')"
AUDIT = "INSERT INTO audit_log (actor, action, object, request_id) VALUES ('admin', 'create', 'key:a', 'r')"
ROW_OF = {
    "api_keys": [KEY],
    "api_key_secrets": [KEY, SECRET],
    "teams": [TEAM],
    "tiers": [],
    "prices": [],
    "credit_grants": [],
    "backends": [BACKEND],
    "model_aliases": [ALIAS],
}


@pytest.mark.parametrize("table", ["api_keys", "teams"])
async def test_a_changed_row_gets_a_new_version_whoever_changes_it(database: asyncpg.Connection, table: str) -> None:
    for statement in ROW_OF[table]:
        await database.execute(statement)
    before = await database.fetchrow(f"SELECT * FROM {table}")
    await database.execute(f"UPDATE {table} SET label = 'by hand', version = 1")
    after = await database.fetchrow(f"SELECT * FROM {table}")
    assert before and after
    assert after["version"] == before["version"] + 1
    assert after["updated_at"] > before["updated_at"]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM api_key_secrets",
        "UPDATE api_key_secrets SET expires_at = now()",
        "UPDATE tiers SET multiplier_milli = 5",
        "UPDATE tiers SET limits = jsonb_build_object('burst', 3)",
        "UPDATE tiers SET weight = 2",
    ],
)
async def test_what_a_key_depends_on_changes_its_version_too(database: asyncpg.Connection, change: str) -> None:
    for statement in (KEY, SECRET, "UPDATE api_keys SET tier = 'basic'"):
        await database.execute(statement)
    before = await database.fetchval("SELECT version FROM api_keys")
    await database.execute(change)
    assert await database.fetchval("SELECT version FROM api_keys") == before + 1


async def test_every_change_of_prices_makes_a_new_list(database: asyncpg.Connection) -> None:
    for change in (
        "INSERT INTO prices (model, valid_from) VALUES ('m', 'epoch')",
        "UPDATE prices SET per_request_micro = 7 WHERE model = 'm'",
        "DELETE FROM prices WHERE model = 'm'",
    ):
        before = await database.fetchval("SELECT version FROM price_list")
        await database.execute(change)
        assert await database.fetchval("SELECT version FROM price_list") == before + 1


@pytest.mark.parametrize(
    ("row", "table", "column"), [(BACKEND, "backends", "weight"), (ALIAS, "model_aliases", "context_tokens")]
)
async def test_every_change_of_the_fleet_makes_a_new_version(
    database: asyncpg.Connection, row: str, table: str, column: str
) -> None:
    for change in (row, f"UPDATE {table} SET {column} = 7", f"DELETE FROM {table}", f"TRUNCATE {table}"):
        before = await database.fetchval("SELECT version FROM fleet")
        await database.execute(change)
        assert await database.fetchval("SELECT version FROM fleet") == before + 1


@pytest.mark.parametrize("table", ["credit_grants", "audit_log"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_ledger_and_the_audit_log_only_grow(database: asyncpg.Connection, table: str, change: str) -> None:
    for statement in (KEY, GRANT, AUDIT):
        await database.execute(statement)
    if change.startswith("UPDATE") and table == "audit_log":
        change = "UPDATE {} SET actor = 'somebody else'"
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await database.execute(change.format(table))
    assert await database.fetchval(f"SELECT count(*) FROM {table}") == 1


@pytest.mark.parametrize(
    ("table", "change", "rule"),
    [
        ("api_keys", "id = ''", "api_keys_id_form"),
        ("api_keys", "id = 'a:b'", "api_keys_id_form"),
        ("api_keys", "credits_granted_micro = 9007199254740992", "api_keys_credits_granted_range"),
        ("api_keys", "credits_granted_micro = -1", "api_keys_credits_granted_range"),
        ("api_keys", "expires_at = 'infinity'", "api_keys_times_finite"),
        ("api_keys", "revoked_at = now()", "api_keys_revoked_for_good"),
        ("api_keys", "label = repeat('x', 501)", "api_keys_label_short"),
        ("api_keys", "scopes = '{}'", "api_keys_scopes_known"),
        ("api_keys", "scopes = '{inference,admin}'", "api_keys_scopes_known"),
        ("api_keys", "models = '{llama3 *}'", "api_keys_models_form"),
        ("api_keys", "models = ARRAY['']", "api_keys_models_form"),
        ("api_keys", "networks = '{10.0.0.0}'", "api_keys_networks_form"),
        ("api_keys", "networks = '{10.0.0.999/8}'", "api_keys_networks_form"),
        ("api_keys", "networks = '{10.0.0.0/33}'", "api_keys_networks_form"),
        ("api_keys", "networks = '{somewhere/8}'", "api_keys_networks_form"),
        ("api_key_secrets", "digest = 'short'", "api_key_secrets_digest_form"),
        ("teams", "id = 'a b'", "teams_id_form"),
        ("tiers", "name = 'a b'", "tiers_name_form"),
        ("tiers", "multiplier_milli = -1", "tiers_multiplier_range"),
        ("tiers", "weight = 0", "tiers_weight_range"),
        ("tiers", "weight = 101", "tiers_weight_range"),
        ("backends", "name = 'a/b'", "backends_name_form"),
        ("backends", "name = '.'", "backends_name_form"),
        ("backends", "url = 'ftp://n'", "backends_url_form"),
        ("backends", "url = 'http://me:secret@n'", "backends_url_form"),
        ("backends", "url = 'http://n/?a'", "backends_url_form"),
        ("backends", "url = 'http://n/' || repeat('x', 500)", "backends_url_form"),
        ("backends", f"slots = {fleet.SLOTS_MAX + 1}", "backends_slots_range"),
        ("backends", "slots = 0", "backends_slots_range"),
        ("backends", f"weight = {fleet.WEIGHT_MAX + 1}", "backends_weight_range"),
        ("backends", "tags = '{a b}'", "backends_tags_form"),
        ("backends", "bearer = 'a b'", "backends_bearer_form"),
        ("backends", f"bearer = repeat('x', {fleet.BEARER_CHARS_MAX + 1})", "backends_bearer_form"),
        ("backends", f"ca_pem = repeat('x', {fleet.CA_CHARS_MAX + 1})", "backends_ca_pem_short"),
        ("model_aliases", "name = 'Fast'", "model_aliases_name_form"),
        ("model_aliases", "targets = '{}'", "model_aliases_targets_form"),
        ("model_aliases", "options = '[]'", "model_aliases_options_form"),
        ("model_aliases", f"context_tokens = {fleet.CONTEXT_TOKENS_MAX + 1}", "model_aliases_context_tokens_range"),
        ("prices", "per_request_micro = -1", "prices_range"),
        ("prices", "valid_from = 'infinity'", "prices_valid_from_finite"),
    ],
)
async def test_rules_have_names(undone: asyncpg.Connection, table: str, change: str, rule: str) -> None:
    for statement in ROW_OF[table]:
        await undone.execute(statement)
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await undone.execute(f"UPDATE {table} SET {change}")
    assert caught.value.constraint_name == rule


async def test_networks_as_python_writes_them_fit(database: asyncpg.Connection) -> None:
    await database.execute(KEY)
    written = [
        network(text) for text in ("10.1.2.3", "192.168.0.0/16", "::1", "2001:db8::/32", "::ffff:10.0.0.1", "::/0")
    ]
    await database.execute("UPDATE api_keys SET networks = $1", written)
    assert await database.fetchval("SELECT networks FROM api_keys") == written


@pytest.mark.parametrize("table", ["api_keys", "teams", "tiers"])
@pytest.mark.parametrize(
    "limits",
    [
        "[]",
        "null",
        '{"unknown": 1}',
        '{"rate_limit_per_min": 0}',
        '{"rate_limit_per_min": 1.5}',
        '{"rate_limit_per_min": "1"}',
        f'{{"rate_limit_per_min": {PER_MINUTE_MAX + 1}}}',
        f'{{"tokens_per_min": {PER_MINUTE_MAX + 1}}}',
        f'{{"burst": {PER_MINUTE_MAX + 1}}}',
        f'{{"concurrency": {CONCURRENCY_MAX + 1}}}',
        f'{{"monthly_token_limit": {MONTHLY_TOKENS_MAX + 1}}}',
        '{"model_limits": null}',
        '{"model_limits": {"": {}}}',
        '{"model_limits": {"a;b": {}}}',
        '{"model_limits": {"a b": {}}}',
        '{"model_limits": {"a": {"burst": 1}}}',
        '{"model_limits": {"a": {"rate_limit_per_min": 0}}}',
        f'{{"model_limits": {{"{"x" * (GLOB_CHARS_MAX + 1)}": {{}}}}}}',
        '{"model_limits": {' + ", ".join(f'"m{n}": {{}}' for n in range(MODEL_LIMITS_MAX + 1)) + "}}",
    ],
)
async def test_limits_that_are_none_are_refused(undone: asyncpg.Connection, table: str, limits: str) -> None:
    for statement in ROW_OF[table]:
        await undone.execute(statement)
    with pytest.raises((asyncpg.CheckViolationError, asyncpg.InvalidParameterValueError)):
        await undone.execute(f"UPDATE {table} SET limits = $1", limits)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(rate_limit_per_min=None, burst=None, tokens_per_min=None, concurrency=None, monthly_token_limit=None),
        Limits(
            rate_limit_per_min=PER_MINUTE_MAX,
            burst=PER_MINUTE_MAX,
            tokens_per_min=PER_MINUTE_MAX,
            concurrency=CONCURRENCY_MAX,
            monthly_token_limit=MONTHLY_TOKENS_MAX,
            model_limits={
                f"m{n}".ljust(GLOB_CHARS_MAX, "*"): ModelLimits(rate_limit_per_min=PER_MINUTE_MAX, tokens_per_min=1)
                for n in range(MODEL_LIMITS_MAX)
            },
        ),
        Limits(model_limits={"a": ModelLimits()}),
    ],
)
async def test_limits_as_the_gateway_writes_them_fit(undone: asyncpg.Connection, limits: Limits) -> None:
    await undone.execute("UPDATE tiers SET limits = $1", limits_json(limits))
    assert json.loads(await undone.fetchval("SELECT limits FROM tiers WHERE name = 'basic'")) == said(limits)


OLD_KEY = """
INSERT INTO api_keys (id, digest, last_four, label, rate_limit_per_min, tokens_per_min, concurrency,
                      monthly_token_limit, credits_granted_micro, version, created_at)
VALUES ($1, $2, 'abcd', 'old', $3, $4, $5, $6, $7, 3, '2026-01-01')
"""


async def test_keys_and_rows_of_before_0002_are_carried_over(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = sql.migrations()
    monkeypatch.setattr(sql, "migrations", lambda: steps[:1])
    await migrate(database_url)
    async with connected(database_url) as connection:
        await connection.execute(OLD_KEY, "full", "1" * 64, 20, 30, 40_000, 0, 7_500_000)
        await connection.execute(OLD_KEY, "bare", "2" * 64, 5, None, None, None, None)
        await connection.execute(OLD_KEY, "broke", "3" * 64, 5, None, None, 2**53 - 1, 0)
        await connection.execute(INSERT, datetime(2026, 11, 3, tzinfo=UTC))
        await connection.execute("SELECT make_usage_partition('2026-11-01')")
    monkeypatch.undo()
    assert await migrate(database_url) == [step.name for step in steps[1:]]
    async with connected(database_url) as connection:
        rows = {row["id"]: row for row in await connection.fetch("SELECT * FROM api_keys")}
        limits = {key: json.loads(row["limits"]) for key, row in rows.items()}
        secrets = await connection.fetch("SELECT * FROM api_key_secrets ORDER BY digest")
        grants = await connection.fetch("SELECT * FROM credit_grants")
        assert [tuple(row) for row in await connection.fetch("SELECT team_id, team_credits_micro FROM usage_logs")] == [
            ("", 0)
        ]
    unlimited = {"tokens_per_min": None, "concurrency": None}
    assert limits == {
        "full": {"rate_limit_per_min": 20, "tokens_per_min": 30, "concurrency": 10_000, "monthly_token_limit": 1},
        "bare": unlimited | {"rate_limit_per_min": 5, "monthly_token_limit": None},
        "broke": unlimited | {"rate_limit_per_min": 5, "monthly_token_limit": 10**12},
    }
    assert {row["version"] for row in rows.values()} == {4}  # so that the new records replace those in Redis
    assert {key: (row["metered"], row["credits_granted_micro"]) for key, row in rows.items()} == {
        "full": (True, 7_500_000),
        "bare": (False, 0),
        "broke": (True, 0),
    }
    assert [(row["api_key_id"], row["digest"], row["last_four"]) for row in secrets] == [
        ("full", "1" * 64, "abcd"),
        ("bare", "2" * 64, "abcd"),
        ("broke", "3" * 64, "abcd"),
    ]
    assert [(row["id"], row["api_key_id"], row["amount_micro"]) for row in grants] == [
        ("opening-full", "full", 7_500_000)
    ]
