"""To whom a call is offered when not every node can take it (reliability F43, F49, F50), and for how long."""

import asyncio
import time

from gateway.backends.line import RETRY_S_MAX, RETRY_S_MIN
from gateway.dev.fake_faults import Behaviour
from tests.acceptance.conftest import Start
from tests.acceptance.scene import MODEL, scene
from tests.nodes import nodes

KILLER = "the words that kill"
SLOTS, NODES = 2, 2
WORK_MS = 200
OVERLOAD = 3
OVERLOADED_S = 4.0
LET_GO_S = 1.0


async def test_f43_three_times_too_many_calls_are_refused_at_once_and_the_rest_served(start: Start) -> None:
    capacity = NODES * SLOTS * 1000 / WORK_MS
    async with nodes(NODES) as fleet:
        env = {"OLLAMA_SLOTS": str(SLOTS), "QUEUE_LENGTH_MAX": str(NODES * SLOTS)}
        async with scene(start, fleet, **env) as it:
            for node in fleet:
                node.behaviour = Behaviour(first_byte_ms=WORK_MS)
            until_s = time.monotonic() + OVERLOADED_S
            outcomes = await it.calls_while(lambda: time.monotonic() < until_s, OVERLOAD * capacity)
            served = outcomes.statuses[200]
            refused = type(outcomes)(one for one in outcomes if one.status != 200)
            print(
                f"\n{len(outcomes)} calls in {OVERLOADED_S} s, capacity {capacity}/s: {dict(outcomes.statuses)}, "
                f"goodput {served / OVERLOADED_S / capacity:.0%}, p99 of refusals {refused.share_ms(0.99):.0f} ms"
            )
            assert set(outcomes.statuses) == {200, 503}
            assert {one.code for one in refused} == {"queue_full"}
            assert all(RETRY_S_MIN <= int(one.reply.headers["retry-after"]) <= RETRY_S_MAX for one in refused)
            assert fleet.peaks == [SLOTS] * NODES
            rows = await it.world.rows_when_settled()
            assert [row["status"] for row in rows].count("ok") == served
            others = [row for row in rows if row["status"] != "ok"]
            assert {(row["status"], row["total_tokens"]) for row in others} == {("queue_full", 0)}
            assert len(others) < len(refused), "most were turned away before they were admitted"


async def test_f50_a_model_that_one_of_three_has_not_or_has_no_more_is_no_clients_concern(start: Start) -> None:
    async with nodes(3) as fleet:
        never, no_more = fleet[0], fleet[1]
        del never.shelf.models[MODEL]
        for node in (no_more, fleet[2]):  # or one alone may do for so few
            node.shelf.load(node.shelf.models[MODEL])
            node.behaviour = Behaviour(first_byte_ms=20)
        async with scene(start, fleet) as it:
            first = await it.calls(40, at_once=4)
            no_more.shelf.unload(no_more.shelf.models[MODEL])
            del no_more.shelf.models[MODEL]
            after = await it.calls(160, at_once=4)
            retried = [line["code"] for line in it.logged("retried")]
            print(f"\none of three never had the model: {dict(first.statuses)}; another has lost it: "
                  f"{dict(after.statuses)}, {len(retried)} retried")  # fmt: skip
            assert first.statuses == {200: 40} and after.statuses == {200: 160}
            assert set(first.backends) == {it.name(no_more), it.name(fleet[2])}
            assert set(retried) == {"model_not_found"}
            assert not never.ledger.inference
            assert fleet.requests["/api/pull"] == 0
            assert [(await it.seen(node))["ejected"] for node in fleet] == [[], [], []]
            assert (await it.seen(no_more))["models"] == len(no_more.shelf.models), "listed again at once"


async def test_a_prompt_that_kills_is_offered_to_two_nodes_at_most(start: Start) -> None:
    async with nodes(4) as fleet, scene(start, fleet) as it:
        for with_error in (False, True):
            for streamed in (False, True):
                for node in fleet:
                    node.behaviour = Behaviour(kills=KILLER, kills_with_error=with_error)
                fleet.clear()
                killed = await it.call(content=KILLER, stream=streamed)
                print(f"\none call that kills was offered to so many nodes: {sum(fleet.offers)} ({killed.code})")
                assert killed.status == 502, killed.reply.text
                assert 1 <= sum(fleet.offers) <= 2 and max(fleet.offers) == 1
                others = await it.calls(4)
                assert others.statuses == {200: 4}


async def test_f49_a_node_is_let_go_when_the_client_leaves_while_its_prompt_is_evaluated(start: Start) -> None:
    async with nodes(1, prompt_ms_per_token=500) as fleet, scene(start, fleet) as it:
        node = fleet[0]
        for streamed in (True, False):
            node.ledger.clear()
            call = asyncio.create_task(it.call(stream=streamed))
            await node.ledger.until(lambda ledger: ledger.evaluated_tokens)
            call.cancel()
            left_at = time.time()
            await node.ledger.until(lambda ledger: ledger.left, LET_GO_S)
            closed_at = node.ledger.left[0].disconnected_at
            assert closed_at is not None
            print(f"\nthe node is let go after {1000 * (closed_at - left_at):.0f} ms (streamed: {streamed})")
            await it.until_seen(node, lambda seen: not seen["busy"])
        assert {row["status"] for row in await it.world.rows(2)} == {"client_gone"}
