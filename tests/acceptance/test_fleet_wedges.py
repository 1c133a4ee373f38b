"""A model that has lost its slots for good is unloaded once, and who waited for it is answered (Ollama bug 17131)."""

import asyncio
import time

from msgspec.structs import replace

from gateway.dev.fake_faults import Behaviour
from tests.acceptance.conftest import Start
from tests.acceptance.scene import MODEL, scene
from tests.nodes import nodes
from tests.world import bearer, chat

WEDGE_S = 1.0
LINES_READ = 5


async def test_a_silent_model_is_recycled_once_logged_and_the_client_gets_its_answer(start: Start) -> None:
    env = {"OLLAMA_WEDGE_SECONDS": str(WEDGE_S), "OLLAMA_TIMEOUT": "4"}
    async with nodes(1, leaks_slot=True) as fleet, scene(start, fleet, **env) as it:
        node = fleet[0]
        node.behaviour = Behaviour(tokens=400, tokens_per_s=40)
        url, body = f"{it.world.url}/v1/chat/completions", chat(stream=True)
        async with it.world.http.stream("POST", url, headers=bearer(it.key), json=body) as reply:
            seen = 0
            async for line in reply.aiter_lines():
                seen += bool(line)
                if seen == LINES_READ:
                    break
        await node.ledger.until(lambda ledger: node.memory.wedged)
        node.behaviour = replace(node.behaviour, tokens=5, tokens_per_s=None)
        loads = node.ledger.loads[MODEL]
        began_s = time.monotonic()
        replies = await asyncio.gather(*(it.call(stream=streamed) for streamed in (True, False, True)))
        took_s = time.monotonic() - began_s
        recycled = it.logged("recycled")
        print(f"\nwedged by a client that left: three calls answered after {took_s:.1f} s, {len(recycled)} unload")
        assert all(one.ended_well for one in replies), [one.reply.text for one in replies]
        assert [(line["backend"], line["model"]) for line in recycled] == [(it.name(node), MODEL)]
        assert (node.ledger.unloads[MODEL], node.ledger.loads[MODEL]) == (1, loads + 1)
        assert (await it.seen(node))["ejected"] == []

        probes = node.ledger.requests["/api/ps"]
        await node.ledger.until(lambda ledger: ledger.requests["/api/ps"] > probes)
        await it.until_seen(node, lambda seen: MODEL in seen["loaded"])
        node.hardware = replace(node.hardware, wedge_heals_by_unload=False)
        node.behaviour = Behaviour(wedged=(MODEL,))
        vain = await asyncio.gather(*(it.call(stream=True) for _ in range(3)))
        assert {one.status for one in vain} <= {503, 504}
        assert (await it.call(stream=True)).status in (503, 504)
        assert (len(it.logged("recycled")), node.ledger.unloads[MODEL]) == (2, 2), "once, for it did not help"
