"""Faults of nodes before the answer (reliability F33-F35, F43, F50): another node answers, and who is to blame.

What a single failing node looks like to clients is in test_backend_faults.py.
"""

import asyncio
import random

from msgspec.structs import replace

from gateway.backends.line import RETRY_S_MAX, RETRY_S_MIN
from gateway.core.breaker import FAULTS_MAX
from gateway.core.placing import breaker_name
from gateway.core.retries import CALLS_A_RETRY, RESERVE
from gateway.core.routing import WHOLE_NODE
from gateway.dev.fake_faults import Behaviour
from gateway.state import keyspace
from tests.acceptance.conftest import Start
from tests.acceptance.scene import MODEL, scene
from tests.nodes import nodes

CALLS = 100
CLIENTS = 6
ERRORS_SHARE = 0.05
SUCCESS_SHARE = 0.99


async def test_f33_one_of_three_nodes_dead_is_no_clients_concern(start: Start) -> None:
    async with nodes(3) as fleet, scene(start, fleet) as it:
        for node in fleet:
            node.behaviour = Behaviour(first_byte_ms=50)
        before = await it.calls(60, at_once=CLIENTS)
        assert set(before.backends) == {it.name(node) for node in fleet}

        dead, reset = fleet[0], fleet[1]
        await dead.stop()
        after = await it.calls(120, at_once=CLIENTS)
        added_ms = after.share_ms(0.99) - before.share_ms(0.99)
        retried = len(it.logged("retried"))
        print(f"\none of three dead: {dict(after.statuses)}, {retried} retried, p99 {added_ms:+.0f} ms")
        assert after.statuses == {200: 120}
        assert it.name(dead) not in after.backends
        assert 0 < retried <= FAULTS_MAX + CLIENTS, "those that were under way together count as one"

        fleet.clear()
        reset.behaviour = Behaviour(drop_after_chunks=0)
        ejected = asyncio.create_task(it.until_seen(reset, lambda seen: seen["ejected"]))
        resets = await it.calls_while(lambda: not ejected.done(), 40)
        print(
            f"one of two left resets, at 40/s: {dict(resets.statuses)}, {len(reset.ledger.inference)} were sent there"
        )
        assert set(resets.statuses) == {200}
        assert (await it.seen(reset))["ejected"][0]["model"] == WHOLE_NODE
        assert FAULTS_MAX <= len(reset.ledger.inference) <= FAULTS_MAX + 2 * CLIENTS, "kept connections blame nobody"


async def test_f34_a_500_is_not_tried_elsewhere_and_a_503_is(start: Start, seed: str) -> None:
    chance = random.Random(seed)
    async with nodes(2) as fleet, scene(start, fleet) as it:
        fleet.clear()
        broken = 0
        for _ in range(CALLS):
            if chance.random() < ERRORS_SHARE:
                broken += 1
                for node in fleet:
                    node.behaviour = Behaviour(status=500)
            outcome = await it.call()
            assert (outcome.status == 502) == (fleet[0].behaviour.status == 500), outcome.reply.text
            for node in fleet:
                node.behaviour = Behaviour()
        print(f"\n{broken} of {CALLS} met a 500: {len(fleet.inference) - CALLS} retries")
        assert len(fleet.inference) == CALLS

        fleet.clear()
        busy = fleet[0]
        busy.behaviour = Behaviour(queue_full=True)
        outcomes = await it.calls(CALLS, at_once=4)
        sent = len(busy.ledger.inference)
        print(f"one of two says that it is busy: {dict(outcomes.statuses)}, {sent} were sent there")
        assert outcomes.statuses[200] >= SUCCESS_SHARE * CALLS
        assert (await it.seen(busy))["ejected"] == []

        fleet.clear()
        fleet[1].behaviour = Behaviour(queue_full=True)
        refused = await it.calls(CALLS, at_once=4)
        retries = len(fleet.inference) - CALLS
        print(f"both are busy: {dict(refused.statuses)}, {retries} retries of {CALLS} calls")
        assert refused.statuses == {503: CALLS}
        assert all(RETRY_S_MIN <= int(one.reply.headers["retry-after"]) <= RETRY_S_MAX for one in refused)
        assert 0 < retries <= RESERVE + 3 * CALLS // CALLS_A_RETRY, "the budget of the calls so far"


async def test_f35_a_load_may_take_its_time_and_is_not_held_against_the_node(start: Start) -> None:
    async with nodes(1, load_ms=4_000) as fleet, scene(start, fleet, warm=False, OLLAMA_TIMEOUT="2") as it:
        node = fleet[0]
        began = asyncio.create_task(it.call(stream=True))
        await node.ledger.until(lambda ledger: node.memory.loading)
        joined = await it.call(stream=True)
        late = await began
        print(f"\na load of 4 s, patience for 2 s: {late.code} after {late.took_s:.1f} s; who waited: {joined.status}")
        assert (late.status, late.code) == (504, "backend_timeout")
        assert joined.ended_well, "the load went on without the call that began it"
        assert node.ledger.loads[MODEL] == 1 and not node.ledger.loads_given_up
        assert (await it.seen(node))["ejected"] == []
        assert await it.world.redis.hget(keyspace.fleet()[15], breaker_name(it.name(node), MODEL)) is None

        node.hardware = replace(node.hardware, load_ms=1_500)
        in_time = await it.call(stream=True, model="qwen3:8b")
        assert in_time.ended_well, in_time.reply.text
        assert (await it.world.usage(it.key))["monthly_tokens"]["held"] == 0
        await it.world.rows(3)
