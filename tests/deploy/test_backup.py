"""A stack is backed up, destroyed with its volumes, and restored in empty ones."""

import json
from pathlib import Path
from typing import Any

import aiohttp

from tests.deploy.chats import DIALECTS, SMALL_CHARS, Chat, Outcome, ask
from tests.deploy.stack import Stack

BACKUP_WAIT_S, RESTORE_WAIT_S = 120.0, 240.0
CALLS = 5
MONTH_TOKENS = 100_000
CREDITS = "1000000"
USAGE = "SELECT count(*), sum(prompt_tokens), sum(completion_tokens) FROM usage_logs"


async def test_keys_balances_and_usage_come_back_and_no_revoked_key_does(stack: Stack, tmp_path: Path) -> None:
    stack.until_well("gateway", len(stack.containers("gateway")))
    kept = stack.new_key("kept", "--credits", CREDITS, "--monthly-token-limit", str(MONTH_TOKENS))
    before, after = stack.new_key("revoked before"), stack.new_key("revoked after")
    stack.gateway("prices", "add", "*", "--per-request", "1", "--per-1k-prompt-tokens", "100")
    for _ in range(CALLS):
        assert not (await called(stack, kept)).failure
    stack.gateway("keys", "revoke", before["id"])
    stack.until_stored()
    balance, usage = left_of(stack, kept), stack.sql(USAGE)

    stack.script("backup", str(tmp_path), wait_s=BACKUP_WAIT_S)
    stack.gateway("keys", "revoke", after["id"])
    stack.script("backup", "--keys", str(tmp_path), wait_s=BACKUP_WAIT_S)
    stack.down()
    made = next(tmp_path.glob("backup-*"))
    print(f"\nrestoring {sum(one.stat().st_size for one in made.iterdir()) / 1e6:.1f} MB")
    stack.script("restore", str(made), wait_s=RESTORE_WAIT_S)
    stack.until_well("gateway", 1)

    assert stack.sql(USAGE) == usage
    assert left_of(stack, kept) == balance
    assert (await called(stack, before)).failure.startswith("401")
    assert (await called(stack, after)).failure.startswith("401"), "revoked after the backup, as keys.tsv says"
    assert not (await called(stack, kept)).failure
    stack.until_stored()
    said = stack.gateway("reconcile", check=False)
    assert said.status == 0, said


async def called(stack: Stack, key: dict[str, Any]) -> Outcome:
    chat = Chat(dialect=DIALECTS[0], streamed=False, prompt_chars=SMALL_CHARS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=stack.trust())) as session:
        return await ask(session, stack.url, str(key["key"]), chat)


def left_of(stack: Stack, key: dict[str, Any]) -> dict[str, Any]:
    """What a key has used this month and has left, without what depends on the minute."""
    said = json.loads(stack.gateway("keys", "usage", key["id"], "--json"))
    assert said["credits"]["charged"] > 0
    assert said["monthly_tokens"]["spent"] > 0
    return {name: said[name] for name in ("monthly_tokens", "credits")}
