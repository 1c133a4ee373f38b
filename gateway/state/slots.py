"""Who has which keys of a Redis Cluster: any node tells, and is asked again when keys have moved or nobody answers."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from redis.crc import key_slot

from gateway.errors import LimitsUnavailable
from gateway.state.client import connect

CLUSTER = "+cluster"
"""how the scheme of a cluster's address ends"""
LOOK_REST_S = 0.5
"""between two looks, while nobody answers or all that moves is being moved"""
UNKNOWN_HOST = b"?"

Address = tuple[str, int]


def is_cluster(url: str) -> bool:
    return urlsplit(url).scheme.endswith(CLUSTER)


def node_urls(url: str) -> list[str]:
    """The nodes that a cluster's address names, each as an address of one server. The cluster may have more."""
    return [_server_url(url, place) for place in urlsplit(url).netloc.rpartition("@")[2].split(",") if place]


def node_url(url: str, node: Address) -> str:
    """The address of any node of the same cluster: credentials and options are the same for all."""
    host, port = node
    return _server_url(url, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _server_url(url: str, place: str) -> str:
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    options = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.removesuffix(CLUSTER)}://{credentials}{at}{place}{options}"


class Slots:
    """The owner of each key, as far as the cluster has told. Asks in the background, once at a time."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        self._url = url
        self._timeout_ms = timeout_ms
        self._owners: dict[int, Address] = {}
        self._look: asyncio.Task[None] | None = None
        self._rests_until_s = 0.0

    @property
    def nodes(self) -> list[Address]:
        """All that have keys, in one order."""
        return sorted(set(self._owners.values()))

    async def close(self) -> None:
        if self._look:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    def owner(self, key: str | bytes | None) -> Address:
        """The node to ask about `key`; some node for None. Raises `LimitsUnavailable` when nobody has it."""
        slot = key_slot(key.encode() if isinstance(key, str) else key) if key else min(self._owners, default=-1)
        if slot not in self._owners:
            self.look_again()
            raise LimitsUnavailable
        return self._owners[slot]

    async def known(self) -> None:
        """Wait for the first answer. Raises `LimitsUnavailable`."""
        if not self._owners:
            self.look_again()
            if self._look:
                await asyncio.shield(self._look)
        if not self._owners:
            raise LimitsUnavailable

    def look_again(self) -> None:
        """Begin to ask, unless that is being done or was done just now."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._rests_until_s and (self._look is None or self._look.done()):
            self._rests_until_s = now_s + LOOK_REST_S
            self._look = asyncio.create_task(self._ask_all(), name="redis-cluster-slots")

    async def _ask_all(self) -> None:
        """The first answer counts: of a node that has keys, else of one that the address names."""
        for url in (*(node_url(self._url, node) for node in self.nodes), *node_urls(self._url)):
            if owners := await self._ask(url):
                self._owners = owners
                return

    async def _ask(self, url: str) -> dict[int, Address]:
        """The owner of each slot as this node sees it; nothing when it does not tell."""
        redis: Any = connect(url, self._timeout_ms)
        try:
            return _owners(await redis.execute_command("CLUSTER SLOTS"), urlsplit(url).hostname or "")
        except Exception:  # away, hung, loading, or no cluster: whatever it is, another one may tell
            return {}
        finally:
            await redis.aclose()


def _owners(reply: Any, asked: str) -> dict[int, Address]:
    """The primary of each slot. A node that does not know its own address is where it was asked."""
    owners = {}
    for first, last, (host, port, *_), *_ in reply:
        node = (host.decode() if host and host != UNKNOWN_HOST else asked, port)
        owners.update(dict.fromkeys(range(first, last + 1), node))
    return owners
