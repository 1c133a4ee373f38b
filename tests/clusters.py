"""A Redis Cluster of three nodes on this machine, made of the embedded server."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import redis

from gateway.dev.valkey import EmbeddedValkey

NODES = 3
SLOTS = 16_384
FORMED_S = 30.0
POLL_S = 0.02
KEYS_A_MOVE = 100


class EmbeddedCluster:
    """`start`, then `url` and `nodes`, then `stop`. Every node has a third of the keys, and nobody a replica.

    What one node has goes on while another is away.
    """

    def __init__(self, directory: Path) -> None:
        ports = _free_ports(2 * NODES)
        self.ports, self._buses = ports[:NODES], ports[NODES:]
        self.servers = [
            EmbeddedValkey(directory / f"n{number}", port=self.ports[number], more=_settings(self._buses[number]))
            for number in range(NODES)
        ]
        self.nodes: list[Any] = []
        """a blocking client of each"""

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}"

    async def start(self) -> None:
        await asyncio.gather(*(server.start() for server in self.servers))
        self.nodes = [redis.Redis.from_url(server.url, decode_responses=True) for server in self.servers]
        for number, node in enumerate(self.nodes):
            first, last = SLOTS * number // NODES, SLOTS * (number + 1) // NODES - 1
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", self.ports[0], self._buses[0])
        async with asyncio.timeout(FORMED_S):
            while not all(map(_is_whole, self.nodes)):
                await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        for node in self.nodes:
            node.close()
        await asyncio.gather(*(server.stop() for server in self.servers))

    def empty(self) -> None:
        """No keys, no functions."""
        for node in self.nodes:
            node.flushall()
            node.function_flush()

    def node_of(self, key: str) -> int:
        """The number of the node that has it."""
        slot = self.nodes[0].cluster("KEYSLOT", key)
        for first, last, (_, port, *_), *_ in self.nodes[0].execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return self.ports.index(port)
        raise AssertionError("nobody has it")

    def move(self, key: str, target: int) -> None:
        """Give the slot of `key`, and all keys in it, to another node, as a resharding does."""
        source, slot = self.node_of(key), self.nodes[0].cluster("KEYSLOT", key)
        ids = [node.execute_command("CLUSTER", "MYID") for node in self.nodes]
        giver, taker = self.nodes[source], self.nodes[target]
        taker.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        giver.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        while keys := giver.execute_command("CLUSTER", "GETKEYSINSLOT", slot, KEYS_A_MOVE):
            giver.execute_command("MIGRATE", "127.0.0.1", self.ports[target], "", 0, 5_000, "KEYS", *keys)
        for node in (taker, giver):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


def _settings(bus: int) -> dict[str, str]:
    return {"cluster-enabled": "yes", "cluster-port": str(bus), "cluster-require-full-coverage": "no"}


def _is_whole(node: Any) -> bool:
    """Whether it works, knows every node and who has every key, and has an answer of each on its own link to it.

    A published message that is the first one on such a link is dropped with the link.
    """
    slots = node.execute_command("CLUSTER SLOTS")
    known = {port for _, _, (_, port, *_), *_ in slots}
    covered = sum(last - first + 1 for first, last, *_ in slots)
    others = [peer for peer in node.cluster("NODES").values() if "myself" not in peer["flags"]]
    linked = all(peer["connected"] and int(peer["last_pong_rcvd"]) for peer in others)
    return linked and node.cluster("INFO")["cluster_state"] == "ok" and len(known) == NODES and covered == SLOTS


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
