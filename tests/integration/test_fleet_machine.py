"""Slots and the line under steps of chance: never too many, never lost, never idle while somebody waits."""

from tests.fleets import FleetBench
from tests.integration.fleet_rules import WEIGHTS, drive

EPISODES = 40


async def test_whatever_happens_slots_and_places_add_up_and_nobody_waits_for_nothing(
    fleet: FleetBench, seed: str
) -> None:
    met = await drive(fleet, seed, EPISODES)
    print(dict(sorted(met.items())))
    assert set(met) >= {*WEIGHTS, "placed", "waits", "loads", "load ended"}
