"""Mistakes put into the fleet's functions on purpose: the rules of chance find each, or are not worth much."""

import pytest

from gateway.errors import GatewayError
from gateway.state.functions import fleet_source
from tests.fleets import FleetBench
from tests.integration.fleet_rules import drive

EPISODES = 200

MUTANTS = {
    "one slot too many": ("if seen.left[candidate.name] <= 0 then", "if seen.left[candidate.name] < 0 then"),
    "one slot too many on the first of the candidates": ("room(f, first, seen) > 0", "room(f, first, seen) >= 0"),
    "a slot that was given is not remembered in the same call": ("  seen.left[held.b] = seen.left[held.b] - 1\n", ""),
    "a slot is given back twice": ("  redis.call('HDEL', f.held, unpack(ids))\n", ""),
    "a call that is told of twice gives two slots back": ("if packed and not held[id] then", "if packed then"),
    "of calls that leave at once one slot is free": ("one.model, -one.slots)", "one.model, -1)"),
    "a line that was empty stays so for ever": ("  fleet.calm = nil", "  fleet.calm = fleet.calm"),
    "a freed slot is given to nobody": ("if all or next(freed) then grant", "if false then grant"),
    "a lease is renewed for less": ("redis.call('ZADD', f.slots, now + SLOT_MS, id)\n  end", "end"),
    "who got a slot still waits": ("  charge(f, ask.key, charged, true)\n  forget(f, id, ask)\n", ""),
    "who waited and found a slot still waits": ("    if waited then forget(f, id, ask) end\n", ""),
    "a key stays in the line when its last call has gone": ("if #more == 0 then", "if false then"),
    "a key leaves the line with the first of its calls": ("if #more == 0 then", "if true then"),
    "the line is not told what was served": ("  redis.call('ZADD', f.line, 'XX', at, key)\n", ""),
    "calls that wait are counted twice": ("'HINCRBY', f.depths, ask.model, 1)", "'HINCRBY', f.depths, ask.model, 2)"),
    "only the first of a key is offered a slot": ("local FRONT_MAX = 8", "local FRONT_MAX = 1"),
    "a second load is begun on a node": ("    if parsed(seen.loads[candidate.name]) then return false end\n", ""),
    "a load goes on when its call has gone": ("  redis.call('HDEL', f.loads, backend)\n", ""),
    "everybody may load at once": ("if candidate.cold ~= 1 then return false end", "do return false end"),
    "a load that failed is waited for by nobody else": (
        "all = all or its.l == 1", "if its.l == 1 then freed = {} end",
    ),
    "more slots are given to nobody": ("  grant(f, now)\n  return 1", "  return 1"),
    "the end of a load is heard by nobody": ("if ended > 0 then grant(f, now) end", ""),
    "a repeated call takes a second slot": ("  if packed then\n    local held", "  if false then\n    local held"),
    "a longer line than there may be": ("elseif waits and depth >= depth_max", "elseif waits and depth > depth_max"),
    "who will not wait waits": ("  elseif waits then\n    join", "  else\n    join"),
    "a place is not given up when nobody asks for it": (
        "ZRANGEBYSCORE', f.patience, '-inf', now", "ZRANGEBYSCORE', f.patience, '-inf', 0",
    ),
    "the slots of the dead are kept": ("ZRANGEBYSCORE', f.slots, '-inf', now", "ZRANGEBYSCORE', f.slots, '-inf', 0"),
}  # fmt: skip


@pytest.mark.parametrize(("right", "wrong"), MUTANTS.values(), ids=MUTANTS)
async def test_a_mistake_is_found(redis_url: str, right: str, wrong: str, seed: str) -> None:
    library = fleet_source()
    assert right in library, "the mistake has nowhere to be made"
    fleet = FleetBench(redis_url, library.replace(right, wrong, 1))
    with pytest.raises((AssertionError, GatewayError, KeyError)):
        await drive(fleet, seed, EPISODES)
    fleet.close()
