"""The keyspace page lists every name that is made, and nothing makes another."""

import re
from pathlib import Path

from gateway.state import keyspace
from gateway.state.functions import VERBS, source

ROOT = Path(__file__).parents[2]
GIVEN = r"KEYS\[\d+\]|(owner\.)?names\.\w+|key|ready|stream|lease|leases|running"
"""what a key of a command may be called in the functions: one of KEYS, or what it was handed on as"""
KEY_ID, TEAM_ID, CALL_ID, MARK, ADDRESS = "KEYID", "TEAMID", "CALLID", "MARK", "ADDRESS"


def listed() -> set[str]:
    """The names of the module's table, with our ids put in."""
    rows = re.findall(r"^    (\{sNN\}:\S+(?: id>)?)  ", keyspace.__doc__ or "", re.MULTILINE)
    ours = {"<key id>": KEY_ID, "<team id>": TEAM_ID, "<call id>": CALL_ID, "<mark>": MARK, "<address>": ADDRESS}
    return {re.sub("<.*>", lambda found: ours[found[0]], row) for row in rows}


def made() -> set[str]:
    names = keyspace.KeyNames(KEY_ID, shards=1)
    shard = names.shard
    all_names = [
        *names.all(), *keyspace.TeamNames(TEAM_ID, shards=1).all(),
        keyspace.prices(shard), keyspace.failures(ADDRESS, shards=1),
        keyspace.ready(shard), keyspace.lease(shard, CALL_ID), keyspace.leases(shard), keyspace.usage(shard),
        keyspace.usage_dead(shard), keyspace.hydrating(shard, MARK),
    ]  # fmt: skip
    return {name.replace(keyspace.shard_tag(shard), "{sNN}") for name in all_names}


def test_the_table_is_what_is_made() -> None:
    assert listed() == made()


def test_no_other_module_makes_a_name() -> None:
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        if path.name != "keyspace.py":
            assert not re.search(r"\{s\d\d\}|\{\{s|:lease:|[:-]account:", path.read_text("utf-8")), path.name
    assert "'{" not in source()


def test_functions_touch_only_keys_they_were_given() -> None:
    calls = re.findall(r"redis\.call\('(\w+)',\s*([^,)]+)", source())
    assert {command for command, _ in calls} >= {"TIME"} or "redis.call('TIME')" in source()
    for command, key in calls:
        assert re.fullmatch(GIVEN, key), (command, key)
    assert all(f"LIBRARY_{verb}" in source() for verb in VERBS)
