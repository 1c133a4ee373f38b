"""The keyspace page lists every name that is made, and nothing makes another."""

import re
from pathlib import Path

from gateway.state import keyspace
from gateway.state.functions import VERBS, source

ROOT = Path(__file__).parents[2]
KEY_ID, CALL_ID, MARK = "KEYID", "CALLID", "MARK"


def listed() -> set[str]:
    """The names of the module's table, with our ids put in."""
    rows = re.findall(r"^    (\{sNN\}:\S+(?: id>)?)  ", keyspace.__doc__ or "", re.MULTILINE)
    return {row.replace("<key id>", KEY_ID).replace("<call id>", CALL_ID).replace("<mark>", MARK) for row in rows}


def made() -> set[str]:
    names = keyspace.KeyNames(KEY_ID, shards=1)
    shard = names.shard
    all_names = [
        names.key, names.account, names.requests, names.tokens, names.running,
        keyspace.ready(shard), keyspace.lease(shard, CALL_ID), keyspace.leases(shard), keyspace.usage(shard),
        keyspace.usage_dead(shard), keyspace.hydrating(shard, MARK),
    ]  # fmt: skip
    return {name.replace(keyspace.shard_tag(shard), "{sNN}") for name in all_names}


def test_the_table_is_what_is_made() -> None:
    assert listed() == made()


def test_no_other_module_makes_a_name() -> None:
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        if path.name != "keyspace.py":
            assert not re.search(r"\{s\d\d\}|\{\{s|:lease:|:account:", path.read_text("utf-8")), path.name
    assert "'{" not in source()


def test_functions_touch_only_keys_they_were_given() -> None:
    calls = re.findall(r"redis\.call\('(\w+)',\s*([^,)]+)", source())
    assert {command for command, _ in calls} >= {"TIME"} or "redis.call('TIME')" in source()
    for command, key in calls:
        assert re.fullmatch(r"KEYS\[\d+\]|keys\.\w+|key|\w+_key|stream", key), (command, key)
    assert all(f"LIBRARY_{verb}" in source() for verb in VERBS)
