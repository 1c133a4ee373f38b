"""The breaker: its table, how long it ejects, and what that comes to over minutes (F44, F46)."""

import random
from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from gateway.core.breaker import (
    EJECTION_MS,
    EJECTION_MS_MAX,
    FAULTS_MAX,
    GOOD_MS,
    JITTER,
    TABLE,
    TRIAL_MS,
    Breaker,
    Event,
    State,
    after,
    decode,
    ejected,
    encode,
    trial_due,
)

MIDDLE = 0.5
"""the chance that jitters nothing"""
NOW_MS = 1_795_000_000_000
BREAKERS = st.builds(
    Breaker,
    failures=st.integers(0, FAULTS_MAX),
    ejections=st.integers(0, 99),
    until_ms=st.sampled_from([0, NOW_MS - 1, NOW_MS + 1]),
    since_ms=st.sampled_from([0, NOW_MS - GOOD_MS, NOW_MS - 1]),
    recycled=st.booleans(),
)
EVENTS = get_args(Event)
CHANCES = st.floats(0, 1, exclude_max=True)


def faults(one: Breaker, count: int, now_ms: int = NOW_MS, chance: float = MIDDLE) -> Breaker:
    for _ in range(count):
        one = after(one, "fault", now_ms, chance)
    return one


def test_every_pair_of_state_and_event_is_in_the_table() -> None:
    assert set(TABLE) == set(product(get_args(State), EVENTS))


def test_three_faults_on_end_eject_and_two_do_not() -> None:
    assert not ejected(faults(Breaker(), FAULTS_MAX - 1))
    assert faults(Breaker(), FAULTS_MAX).until_ms == NOW_MS + EJECTION_MS
    between = after(faults(Breaker(), FAULTS_MAX - 1), "ok", NOW_MS, MIDDLE)
    assert not ejected(faults(between, FAULTS_MAX - 1)), "an answer in between starts the count anew"


@pytest.mark.parametrize("event", ["ok", "fault"])
def test_calls_that_were_running_change_nothing_for_an_ejected_one(event: Event) -> None:
    out = faults(Breaker(), FAULTS_MAX)
    for now_ms in (NOW_MS + 1, out.until_ms + 1):
        assert after(out, event, now_ms, MIDDLE) == out


def test_only_a_trial_that_went_well_brings_one_back() -> None:
    out = faults(Breaker(), FAULTS_MAX)
    assert not trial_due(out, out.until_ms - 1)
    assert trial_due(out, out.until_ms)
    for event in EVENTS:
        assert ejected(after(out, event, out.until_ms, MIDDLE)) is (event != "trial_ok")
    back = after(out, "trial_ok", out.until_ms, MIDDLE)
    assert (back.failures, back.since_ms, back.ejections) == (0, out.until_ms, 1)
    assert not ejected(faults(back, FAULTS_MAX - 1, out.until_ms))


def test_a_trial_in_vain_makes_the_next_later_and_the_ejection_no_longer() -> None:
    out = faults(Breaker(), FAULTS_MAX)
    later = after(out, "trial_failed", out.until_ms, 0.0)
    assert later.until_ms == out.until_ms + TRIAL_MS
    assert after(out, "trial_failed", out.until_ms, 0.999).until_ms <= out.until_ms + TRIAL_MS * (1 + JITTER)
    assert later.ejections == out.ejections
    assert after(Breaker(failures=1), "trial_failed", NOW_MS, MIDDLE) == Breaker(failures=1), (
        "somebody else's went well"
    )


def test_each_ejection_is_longer_than_the_last_up_to_a_cap() -> None:
    one, now_ms, lengths = Breaker(), NOW_MS, []
    for _ in range(35):
        one = faults(one, FAULTS_MAX, now_ms)
        lengths.append(one.until_ms - now_ms)
        now_ms = one.until_ms
        one = after(one, "trial_ok", now_ms, MIDDLE)
    assert lengths[:30] == [EJECTION_MS * number for number in range(1, 31)]
    assert set(lengths[30:]) == {EJECTION_MS_MAX}


@given(BREAKERS, CHANCES)
def test_chance_moves_an_ejection_by_its_share_and_never_over_the_cap(one: Breaker, chance: float) -> None:
    out = faults(one, FAULTS_MAX, chance=chance)
    if ejected(one):
        assert out == one
        return
    plain_ms = min(EJECTION_MS * out.ejections, EJECTION_MS_MAX)
    length_ms = out.until_ms - NOW_MS
    assert plain_ms * (1 - JITTER) - 1 <= length_ms <= min(plain_ms * (1 + JITTER), EJECTION_MS_MAX)


def test_ten_good_minutes_are_as_if_nothing_had_been() -> None:
    back = Breaker(ejections=7, since_ms=NOW_MS)
    soon, late = NOW_MS + GOOD_MS - 1, NOW_MS + GOOD_MS
    assert after(back, "ok", soon, MIDDLE) == back, "nothing new, nothing to write"
    assert after(back, "ok", late, MIDDLE) == Breaker()
    assert faults(back, FAULTS_MAX, soon).ejections == 8
    assert faults(back, FAULTS_MAX, late).ejections == 1


def test_a_model_is_recycled_once_until_it_serves() -> None:
    for one in (Breaker(failures=1), faults(Breaker(), FAULTS_MAX)):
        recycled = after(one, "recycled", NOW_MS, MIDDLE)
        assert recycled.recycled
        assert ejected(recycled) == ejected(one)
        assert after(recycled, "fault", NOW_MS, MIDDLE).recycled
        assert not after(recycled, "trial_ok", NOW_MS, MIDDLE).recycled
    assert not after(Breaker(recycled=True), "ok", NOW_MS, MIDDLE).recycled


@given(BREAKERS)
def test_it_is_packed_and_unpacked_whole_and_the_default_is_nothing(one: Breaker) -> None:
    assert decode(encode(one)) == one
    assert (encode(one) == b"") == (one == Breaker())
    assert encode(Breaker()) == b""
    assert encode(decode(encode(one))) == encode(one)


@given(BREAKERS, st.sampled_from(EVENTS), CHANCES)
def test_it_changes_as_its_state_alone_says(one: Breaker, event: Event, chance: float) -> None:
    found = after(one, event, NOW_MS, chance)
    assert found.failures <= FAULTS_MAX
    if not ejected(one) and event != "fault":
        assert not ejected(found), "only faults eject"


class Past(Struct):
    """What a simulation came to."""

    hurt: int = 0
    calls: int = 0
    ejections_ms: list[int] = []
    trials: int = 0
    back_ms: int = 0


def simulated(up: dict[str, list[tuple[int, int]]], *, ms: int, a_second: float, chance: random.Random) -> Past:
    """Calls on `up`'s nodes, each of which works from and until (ms) as listed; those it does not name always."""
    nodes = {name: Breaker() for name in ("a", "b", "c")}
    past = Past(ejections_ms=[])

    def works(name: str, now_ms: int) -> bool:
        return name not in up or any(start <= now_ms < end for start, end in up[name])

    def happens(name: str, event: Event, now_ms: int) -> None:
        before, nodes[name] = nodes[name], after(nodes[name], event, now_ms, chance.random())
        if ejected(nodes[name]) and not ejected(before):
            past.ejections_ms.append(nodes[name].until_ms - now_ms)
        if ejected(before) and not ejected(nodes[name]):
            past.back_ms = now_ms

    next_call_ms = 0.0
    for now_ms in range(1, ms, 5):
        for name, one in nodes.items():
            if trial_due(one, now_ms):
                past.trials += 1
                happens(name, "trial_ok" if works(name, now_ms) else "trial_failed", now_ms)
        while next_call_ms <= now_ms:
            next_call_ms += 1000 / a_second
            able = [name for name, one in nodes.items() if not ejected(one)]
            if able:
                past.calls += 1
                name = chance.choice(able)
                past.hurt += not works(name, now_ms)
                happens(name, "ok" if works(name, now_ms) else "fault", now_ms)
    return past


@pytest.mark.parametrize("a_second", [6, 10, 50])
def test_f46_a_flapping_node_hurts_few_and_is_away_ever_longer(a_second: int, seed: str) -> None:
    """Up for 2 s and down for 2 s, for 10 minutes, among three. With fewer, three on end are seen later."""
    flaps = {"a": [(start, start + 2_000) for start in range(0, 600_000, 4_000)]}
    past = simulated(flaps, ms=600_000, a_second=a_second, chance=random.Random(seed))
    print(f"{a_second}/s: {past.hurt} of {past.calls} hurt, ejections {past.ejections_ms} ms, {past.trials} trials")
    assert past.hurt <= 0.02 * past.calls
    assert len(past.ejections_ms) >= 5
    for number, length_ms in enumerate(past.ejections_ms, 1):
        plain_ms = EJECTION_MS * number
        assert plain_ms * (1 - JITTER) - 1 <= length_ms <= plain_ms * (1 + JITTER)


@pytest.mark.parametrize("down_ms", [30_000, 60_000, 75_000])
def test_f44_all_nodes_off_are_tried_seldom_and_back_soon(down_ms: int, seed: str) -> None:
    off = {name: [(0, 1_000), (1_000 + down_ms, 10**9)] for name in ("a", "b", "c")}
    past = simulated(off, ms=down_ms + 30_000, a_second=20, chance=random.Random(seed))
    print(f"{past.trials} trials of 3 nodes, back after {past.back_ms - down_ms - 1_000} ms")
    assert past.trials <= 3 * 13 * max(1, down_ms / 60_000)
    assert past.hurt == 3 * FAULTS_MAX
    assert 0 <= past.back_ms - down_ms - 1_000 <= 10_000


def test_chance_decides_nothing_but_lengths(seed: str) -> None:
    """Same events, other chances: the same states."""
    chance = random.Random(seed)
    events = [chance.choice(EVENTS) for _ in range(200)]
    one, other = Breaker(), Breaker()
    for event in events:
        one = after(one, event, NOW_MS, chance.random())
        other = after(other, event, NOW_MS, chance.random())
        assert (ejected(one), one.failures, one.ejections) == (ejected(other), other.failures, other.ejections)
