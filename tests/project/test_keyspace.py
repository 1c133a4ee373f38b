"""The keyspace page lists every name that is made, and nothing makes another."""

import re
from pathlib import Path

from gateway.state import keyspace
from gateway.state.functions import FLEET_SHARED, FLEET_VERBS, SHARED, VERBS, fleet_source, source

ROOT = Path(__file__).parents[2]
GIVEN = r"KEYS\[\d+\]|(owner\.)?names\.\w+|key|ready|stream|lease|leases|running|usage|dead"
"""what a key of a command may be called in the functions: one of KEYS, or what it was handed on as"""
GIVEN_FLEET = r"f\.(\w+)"
CHANNEL = ("PUBLISH", "ask.replica")
LUA = ROOT / "gateway" / "state" / "lua"
KEY_ID, TEAM_ID, CALL_ID, MARK, ADDRESS = "KEYID", "TEAMID", "CALLID", "MARK", "ADDRESS"


def listed() -> set[str]:
    """The names of the module's table, with our ids put in."""
    rows = re.findall(r"^    (\{(?:sNN|fleet)\}:\S+(?: id>)?)  ", keyspace.__doc__ or "", re.MULTILINE)
    ours = {"<key id>": KEY_ID, "<team id>": TEAM_ID, "<call id>": CALL_ID, "<mark>": MARK, "<address>": ADDRESS}
    return {re.sub("<.*>", lambda found: ours[found[0]], row) for row in rows}


def made() -> set[str]:
    names = keyspace.KeyNames(KEY_ID, shards=1)
    shard = names.shard
    all_names = [
        *names.all(), *keyspace.TeamNames(TEAM_ID, shards=1).all(),
        keyspace.prices(shard), keyspace.failures(ADDRESS, shards=1),
        keyspace.ready(shard), keyspace.lease(shard, CALL_ID), keyspace.leases(shard), keyspace.usage(shard),
        keyspace.usage_dead(shard), keyspace.reconciling(shard), keyspace.hydrating(shard, MARK), *keyspace.fleet(),
    ]  # fmt: skip
    return {name.replace(keyspace.shard_tag(shard), "{sNN}") for name in all_names}


def test_the_table_is_what_is_made() -> None:
    assert listed() == made()


def test_no_other_module_makes_a_name() -> None:
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        if path.name != "keyspace.py":
            assert not re.search(r"\{s\d\d\}|\{\{s|:lease:|[:-]account:|\{fleet\}", path.read_text("utf-8")), path.name
    assert "'{" not in source() + fleet_source()


def test_functions_touch_only_keys_they_were_given() -> None:
    calls = re.findall(r"redis\.call\('((?:MEMORY', ')?\w+)',\s*([^,)]+)", source())
    assert {command for command, _ in calls} >= {"TIME"} or "redis.call('TIME')" in source()
    for command, key in calls:
        assert re.fullmatch(GIVEN, key), (command, key)
    assert all(f"LIBRARY_{verb}" in source() for verb in VERBS)


def test_the_fleets_functions_touch_only_the_fleets_keys_in_the_order_they_are_given() -> None:
    order = re.findall(r"(\w+) = KEYS\[(\d+)\]", fleet_source())
    assert [f"{keyspace.FLEET_TAG}:{name}" for name, _ in order] == keyspace.fleet()
    assert [int(number) for _, number in order] == list(range(1, len(order) + 1))
    names = {name for name, _ in order}
    known = "if fleet.registry ~= KEYS[1] then"
    assert known in fleet_source()
    taken = fleet_source().replace(known, "").count("KEYS[")
    assert taken == len(order), "a key is taken by its number in one place alone"
    for command, key in re.findall(r"redis\.call\('(\w+)',\s*([^,)]+)", fleet_source()):
        given = re.fullmatch(GIVEN_FLEET, key)
        assert (command, key) == CHANNEL or (given and given[1] in names), (command, key)


def test_all_that_is_written_in_lua_is_part_of_a_library_and_says_what_it_is_for() -> None:
    parts = {*SHARED, *VERBS, *FLEET_SHARED, *(f"fleet/{verb}" for verb in FLEET_VERBS)}
    assert {str(path.relative_to(LUA).with_suffix("")) for path in LUA.rglob("*.lua")} == parts
    for name in parts:
        assert re.match(r"--\[\[\n  [A-Z][^\n]+", (LUA / f"{name}.lua").read_text("utf-8")), name
    registered = set(re.findall(r"LIBRARY_(\w+)", fleet_source()))
    assert registered == set(FLEET_VERBS)


def test_what_may_write_without_memory_is_said_of_every_function_that_gives_back() -> None:
    """A Redis that is full must still be told that calls have ended."""
    for verb in ("hold", "judge", "leave", "loaded", "register", "sync"):
        assert f"function_name = 'LIBRARY_{verb}', callback = {verb}, flags = {{'allow-oom'}}" in fleet_source()
    assert "function_name = 'LIBRARY_foresee', callback = foresee, flags = {'no-writes'}" in fleet_source()
