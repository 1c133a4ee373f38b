"""deploy/backup and deploy/restore as they are, with Postgres behind a stand-in for compose: what is off stays off."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.shell import CommandFailed, Said
from tests.deploy.shell import run as run_shell
from tests.integration.test_sql_restore import program
from tests.integration.test_sql_schema import connected

DEPLOY = Path(__file__).parents[2] / "deploy"
RUN_S_MAX = 60.0
SHELL = shutil.which("dash") or "sh"
COMPOSE = r"""
case "$*" in
"exec -T postgres pg_isready"*) exit ;;
"exec -T postgres psql --username postgres --dbname gateway "*)
    shift 8
    exec "$PROGRAMS/psql" --dbname "$DATABASE" "$@" ;;
"exec -T postgres pg_dump"*) exec "$PROGRAMS/pg_dump" --format custom --dbname "$DATABASE" ;;
"exec -T postgres pg_restore --file -") exec "$PROGRAMS/pg_restore" --file - ;;
"exec -T redis "*) shift 6 ;;
*) exit ;;
esac
case "$*" in
"sh PING") echo PONG ;;
"sh INFO persistence")
    printf '%s\n' aof_enabled:1 aof_rewrite_in_progress:0 aof_rewrite_scheduled:0 aof_last_bgrewrite_status:ok ;;
"sh EXISTS"*) echo 1 ;;
sh) sed -e 1d -e 's/.*/0/' ;;
esac
"""
"""Redis is one that never has anything to do, so only what the scripts do with Postgres is real."""
KEYS = """
INSERT INTO api_keys (id) VALUES ('kept'), ('revoked'), ('switched'), ('rotated');
INSERT INTO api_key_secrets (api_key_id, digest, last_four)
    SELECT id, encode(sha256(id::bytea), 'hex'), 'aaaa' FROM api_keys;
"""
NEWER = """
INSERT INTO api_keys (id) VALUES ('emergency');
INSERT INTO api_key_secrets (api_key_id, digest, last_four) VALUES ('emergency', repeat('e', 64), 'aaaa');
"""
AFTER_THE_BACKUP = """
UPDATE api_keys SET enabled = false, revoked_at = now() WHERE id = 'revoked';
UPDATE api_keys SET enabled = false WHERE id = 'switched';
UPDATE api_key_secrets SET digest = repeat('f', 64) WHERE api_key_id = 'rotated';
"""
WORKING = """
SELECT k.id FROM public.api_keys AS k JOIN public.api_key_secrets AS s ON s.api_key_id = k.id
WHERE k.enabled AND k.revoked_at IS NULL ORDER BY 1
"""
LONG_AGO = "20200101T000000Z"


class Scripts:
    """deploy/ over one database, with backups in `place`."""

    def __init__(self, place: Path, database: str) -> None:
        self.place = place
        secrets = place / "secrets"
        secrets.mkdir()
        for name in ("redis_operator_password", "key_pepper"):
            (secrets / name).write_text("0123456789abcdef")
        (place / "compose").write_text(COMPOSE)
        self._env = {
            "COMPOSE": f"{SHELL} {place / 'compose'}",
            "PROGRAMS": str(Path(program("psql")).parent),
            "DATABASE": database,
            "SECRETS_DIR": str(secrets),
        }
        self._database = database

    async def run(self, name: str, *argv: str) -> Said:
        return await asyncio.to_thread(
            run_shell, SHELL, str(DEPLOY / name), *argv, wait_s=RUN_S_MAX, env=self._env, cwd=self.place
        )

    async def sql(self, *statements: str) -> list[Any]:
        """The first column of what the last one returns."""
        async with connected(self._database) as connection:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return [row[0] for row in await connection.fetch(statements[-1])]

    async def backup(self) -> str:
        await self.run("backup", str(self.place))
        (made,) = self.place.glob("backup-*")
        return str(made)

    async def restore(self, *argv: str) -> list[Any]:
        """The keys that work afterwards."""
        await self.run("restore", "--keep-redis", *argv)
        return await self.sql(WORKING)

    def former_lists(self) -> list[Path]:
        return sorted(self.place.glob("keys-*.tsv"))


@pytest.fixture
def scripts(tmp_path: Path, migrated_url: str) -> Scripts:
    return Scripts(tmp_path, migrated_url)


@pytest.mark.parametrize("made_meanwhile", ["SELECT", NEWER], ids=["empty", "with-an-emergency-key"])
async def test_a_database_that_was_lost_costs_no_revocation(scripts: Scripts, made_meanwhile: str) -> None:
    await scripts.sql(KEYS, "SELECT 1")
    made = await scripts.backup()
    await scripts.sql(AFTER_THE_BACKUP, "SELECT 1")
    await scripts.run("backup", "--keys", str(scripts.place))
    assert scripts.former_lists() == []

    await scripts.sql("TRUNCATE api_keys CASCADE", made_meanwhile, "SELECT 1")
    said = await scripts.run("backup", "--keys", str(scripts.place))  # by cron, before anybody notices
    (former,) = scripts.former_lists()
    assert str(former) in said.errors
    assert "revoked" in former.read_text() and "revoked" not in (scripts.place / "keys.tsv").read_text()
    assert (await scripts.run("backup", "--keys", str(scripts.place))).errors == "", "said once"

    assert await scripts.restore(made) == ["kept"]
    audited = "SELECT object || ' ' || action FROM public.audit_log WHERE actor = 'deploy/restore' ORDER BY 1"
    assert await scripts.sql(audited) == ["key:revoked revoke", "key:switched update"]


async def test_only_lists_that_know_the_backup_switch_off(scripts: Scripts) -> None:
    await scripts.sql(KEYS, "SELECT 1")
    made = await scripts.backup()
    older = scripts.place / f"keys-{LONG_AGO}-1.tsv"
    older.write_text(f"{LONG_AGO}\nkept\t\\N\tf\t\\N\t\\N\n")
    with pytest.raises(CommandFailed, match="older than the backup"):
        await scripts.run("restore", "--keep-redis", "--keys", str(older), made)
    assert await scripts.restore(made) == ["kept", "revoked", "rotated", "switched"]

    await scripts.sql(AFTER_THE_BACKUP, "SELECT 1")
    assert await scripts.restore("--keys", "none", made) == ["kept", "revoked", "rotated", "switched"]
    elsewhere = scripts.place / "elsewhere"
    elsewhere.write_text("99991231T000000Z\nkept\t\\N\tf\t\\N\t\\N\n")
    assert await scripts.restore("--keys", str(elsewhere), made) == ["revoked", "rotated", "switched"]


async def test_a_whole_backup_keeps_the_list_of_another_database_for_as_long_as_a_backup_may_need_it(
    scripts: Scripts,
) -> None:
    await scripts.sql(KEYS, "SELECT 1")
    (scripts.place / f"backup-{LONG_AGO}").mkdir()
    (scripts.place / "keys-20191231T000000Z-1.tsv").write_text("20191231T000000Z\n")
    (scripts.place / "keys.tsv").write_text("20260101T000000Z\nlost\t\\N\tf\t\\N\t\\N\n")
    await scripts.run("backup", str(scripts.place))
    (former,) = scripts.former_lists()
    assert "lost" in former.read_text()
    assert "kept" in (scripts.place / "keys.tsv").read_text()
