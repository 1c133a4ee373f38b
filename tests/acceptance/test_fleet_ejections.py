"""Nodes that fail again and again get no calls, and come back only when they work (reliability F44-F46, F48)."""

import asyncio
import time

from msgspec.structs import replace

from gateway.backends.news import RATES_ROUNDS, ROUND_S
from gateway.core.breaker import FAULTS_MAX
from gateway.dev.fake_faults import INFERENCE, Behaviour
from gateway.dev.fake_ledger import Exchange
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.scene import MODEL, Outcomes, Scene, scene
from tests.nodes import nodes

PROBED = ("/api/version", "/api/ps", "/api/tags", "/api/show")
OFF = Behaviour(drop_after_chunks=0, paths=(*INFERENCE, *PROBED))
FLAPPING = Behaviour(flap_ms=(2_000, 2_000))
WATCHED_S = 15.0
PROBES_PER_MIN = 13
BACK_S = 10.0
DOWN_S = 15.0
TRIED_AND_SEEN_S = 15.0
"""until the next trial, and a probe that finds the model loaded again"""
A_SECOND = 25
HURT_SHARE = 0.02
SLOWER = 10
FAIR_SHARE = 1 / 5
TOGETHER_S = 0.1
LEARNED_S = 1.5 * RATES_ROUNDS * ROUND_S


async def test_f44_nodes_that_are_all_off_are_asked_seldom_and_are_back_soon(start: Start) -> None:
    async with nodes(3) as fleet, scene(start, fleet, replicas=2) as it:
        first = await it.calls(12, at_once=6)
        assert first.statuses == {200: 12}
        for node in fleet:
            node.behaviour = OFF
        failing = await it.calls(30, at_once=6)
        for node in fleet:
            await it.until_seen(node, lambda seen: seen["state"] == "down", DOWN_S)
        async with asyncio.timeout(BACK_S):
            while {one.code for one in await it.calls(2)} != {"no_backend"}:  # both replicas know
                pass
        fleet.clear()
        until_s = time.monotonic() + WATCHED_S
        refused = await it.calls_while(lambda: time.monotonic() < until_s, 10)
        probes = [rounds(node) for node in fleet]
        assert set(refused.statuses) == {503} and {one.code for one in refused} == {"no_backend"}
        assert set(failing.statuses) <= {502, 503}
        assert max(probes) <= PROBES_PER_MIN * WATCHED_S / 60 + 1
        for node in fleet:
            node.behaviour = Behaviour()
        began_s = time.monotonic()
        async with asyncio.timeout(BACK_S):
            while not (await it.call()).ended_well:
                pass
        print(
            f"\nall off: {probes} probes in {WATCHED_S} s of two replicas with 10 calls/s, "
            f"back after {time.monotonic() - began_s:.1f} s"
        )


def rounds(node: FakeOllama) -> int:
    """How often it was asked anything: a probe gives up at its first question, and may ask two at once."""
    times = sorted(one.received_at for one in node.ledger.exchanges)
    return sum(later - earlier > TOGETHER_S for earlier, later in zip([0.0, *times], times, strict=False))


async def test_f45_f46_a_wedged_node_and_a_flapping_one_get_what_they_can_serve(start: Start) -> None:
    """The wedged one is the first by name, which an idle fleet asks first; the flapping one is another."""
    async with nodes(3) as fleet:
        wedged, flapping = sorted(fleet, key=lambda node: node.url)[:2]
        wedged.hardware = replace(wedged.hardware, wedge_heals_by_unload=False)
        for node in fleet:
            node.shelf.load(node.shelf.models["qwen3:8b"])
        async with scene(start, fleet, OLLAMA_TIMEOUT="1") as it:
            wedged.behaviour = Behaviour(wedged=(MODEL,))
            flapping.behaviour = FLAPPING
            wedge = asyncio.create_task(watch_wedge(it, wedged))
            flaps = await it.calls_while(lambda: not wedge.done(), A_SECOND, model="qwen3:8b")
            count = len(flaps) + wedge.result()
            resets = flapping.ledger.resets
            hurt = len(it.logged("retried")) + sum(not one.ended_well for one in flaps)
            ejections = [line for line in it.logged("ejected") if line["backend"] == it.name(flapping)]
            print(f"flapping: {hurt} of {count} calls hurt, {resets} resets, {len(ejections)} ejections, "
                  f"to clients {dict(flaps.statuses)}")  # fmt: skip
            assert flaps.statuses == {200: len(flaps)}
            assert hurt <= HURT_SHARE * count
            assert ejections


async def watch_wedge(it: Scene, wedged: FakeOllama) -> int:
    """Traffic goes off after three failures and is not back while it is wedged, and soon after. How many calls."""
    calls = Outcomes()
    while not await ejected(it, wedged):
        calls.append(await it.call())
        assert len(asked(wedged)) <= FAULTS_MAX
    failed = sum(not one.ended_well for one in calls)
    assert failed == len(asked(wedged)) == FAULTS_MAX
    while not wedged.ledger.unloads[MODEL]:
        calls.append(await it.call())
        await asyncio.sleep(1 / A_SECOND)
    assert sum(not one.ended_well for one in calls) == failed
    assert len(asked(wedged)) == FAULTS_MAX and len(trials(wedged)) == 1
    assert await ejected(it, wedged)
    assert wedged.ledger.requests["/api/version"] > 1, "which it has answered all the time"

    wedged.behaviour = Behaviour()
    well_s, tried = time.monotonic(), 0
    async with asyncio.timeout(TRIED_AND_SEEN_S):
        while len(asked(wedged)) == FAULTS_MAX:
            tried = len(trials(wedged))
            calls.append(await it.call())
            assert calls[-1].ended_well
            await asyncio.sleep(1 / A_SECOND)
    back_s = time.monotonic() - well_s
    assert tried > 1
    print(f"\nwedged: {failed} of {len(calls)} calls failed, {tried} trials, back {back_s:.1f} s after it was well")
    return len(calls)


async def ejected(it: Scene, node: FakeOllama) -> bool:
    return MODEL in {one["model"] for one in (await it.seen(node))["ejected"]}


def trials(node: FakeOllama) -> list[Exchange]:
    """What the gateway itself asks for one token."""
    return [one for one in node.ledger.inference if one.path == "/api/generate" and "prompt" in one.body]


def asked(node: FakeOllama) -> list[Exchange]:
    """Calls of clients to the wedged model."""
    return [one for one in node.ledger.inference if one.path == "/api/chat" and one.model == MODEL]


async def test_f48_a_node_that_is_ten_times_slower_gets_little_and_holds_nobody_up(start: Start) -> None:
    async with nodes(3, prompt_ms_per_token=1, tokens_per_s=500) as fleet:
        slow = fleet[2]
        slow.hardware = replace(slow.hardware, slow=SLOWER)
        for node in fleet:
            node.behaviour = Behaviour(tokens=10)
        async with scene(start, fleet, OLLAMA_SLOTS="4") as it:
            alone = await until_learned(it, slow)
            outcomes = await it.calls(200, at_once=6)
            share = outcomes.backends[it.name(slow)] / len(outcomes)
            rest = Outcomes(one for one in outcomes if one.backend != it.name(slow))
            print(
                f"\nten times slower: {share:.1%} of calls (fair: 33 %), p50 of the rest {rest.share_ms(0.5):.0f} ms, "
                f"of calls to the fast ones before it was known {alone.share_ms(0.5):.0f} ms"
            )
            assert outcomes.statuses == {200: 200}
            assert share <= FAIR_SHARE / len(fleet)


async def until_learned(it: Scene, slow: FakeOllama) -> Outcomes:
    """Calls for as long as replicas take to learn how fast nodes are; those to the others."""
    until_s = time.monotonic() + LEARNED_S
    some = Outcomes()
    while time.monotonic() < until_s:
        some += await it.calls(30, at_once=6)
    return Outcomes(one for one in some if one.backend != it.name(slow))
