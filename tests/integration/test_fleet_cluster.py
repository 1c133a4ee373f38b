"""The fleet's functions on a Redis Cluster of three nodes: its slots, its line, and messages from whichever node."""

import asyncio
from collections.abc import Iterator

import pytest

from gateway.core.fleet import Node, Registry
from gateway.core.placing import Left, Placed, Waiting
from gateway.state import keyspace
from gateway.state.cluster import ClusterPipe
from gateway.state.functions import Functions, fleet_source
from gateway.state.placement import RedisPlacement
from gateway.state.registry import RegistryDirectory
from gateway.state.wakes import Wakes
from tests.clusters import EmbeddedCluster
from tests.conftest import lend
from tests.fleets import ask, place
from tests.members import TIMEOUT_MS

WOKEN_S = 10.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    one = EmbeddedCluster(tmp_path_factory.mktemp("cluster"))
    for _ in lend(one):
        yield one


async def test_who_waits_is_woken_whichever_node_it_listens_to(cluster: EmbeddedCluster) -> None:
    pipe = ClusterPipe(cluster.url, TIMEOUT_MS)
    pipe.start()
    functions = Functions(pipe, fleet_source())
    placements = {name: RedisPlacement(functions, name) for name in "abc"}
    heard: asyncio.Queue[tuple[str, str, Placed]] = asyncio.Queue()
    listening = []
    for name, server in zip("abc", cluster.servers, strict=True):
        wakes = Wakes(server.url, name, lambda one, placed, name=name: heard.put_nowait((name, one, placed)))  # type: ignore[misc]
        listening.append(asyncio.create_task(wakes.run()))
    await _all_listen(cluster)
    await RegistryDirectory(functions).publish(Registry(version=1, nodes=(Node(name="n1", url="http://n1", slots=1),)))
    assert type(await place(placements["a"], ask("runs"))) is Placed
    for name in "abc":
        assert type(await place(placements[name], ask(f"of-{name}"))) is Waiting
    running = "runs"
    async with asyncio.timeout(WOKEN_S):
        for name in "abc":
            await placements["a"].leave([Left(id=running)])
            assert await heard.get() == (name, f"of-{name}", Placed("n1", loads=False, cached=False))
            running = f"of-{name}"
    await placements["a"].leave([Left(id=running)])
    assert (await placements["b"].sync(0, 0, rates=True, turns={"probe n1": 1})).busy == {}
    assert len({cluster.node_of(name) for name in keyspace.fleet()}) == 1
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    await pipe.close()


async def _all_listen(cluster: EmbeddedCluster) -> None:
    async with asyncio.timeout(WOKEN_S):
        while sum(len(node.pubsub_channels("{fleet}:woken:*")) for node in cluster.nodes) < 3:
            await asyncio.sleep(0)
        await _all_hear(cluster)


async def _all_hear(cluster: EmbeddedCluster) -> None:
    """A message that is the first one on a new link between two nodes is lost with the link: so others go first."""
    teller = cluster.nodes[cluster.node_of(keyspace.fleet()[0])]
    ears = [node.pubsub(ignore_subscribe_messages=True) for node in cluster.nodes]
    for ear in ears:
        ear.subscribe("hello")
    for ear in ears:
        while ear.get_message(timeout=0.01) is None:
            teller.publish("hello", "")
            await asyncio.sleep(0)
        ear.close()
