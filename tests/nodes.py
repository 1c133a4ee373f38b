"""Several fake nodes in the test's own process, looked at as one.

async with nodes(4, parallel=2, load_ms=300) as fleet:
    fleet[1].behaviour = Behaviour(wedged=("llama3.2:3b",))
    await fleet.until(lambda fleet: fleet.open == 0)
    assert fleet.peak <= 2
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway.dev.fake_hardware import Hardware
from gateway.dev.fake_ledger import WAIT_S, Exchange, Ledger
from gateway.dev.fake_models import MODELS, Model
from gateway.dev.fake_ollama import FakeOllama


class Nodes:
    """The nodes in order, and sums over what they have counted."""

    def __init__(self, members: list[FakeOllama]) -> None:
        self.members = members

    def __getitem__(self, number: int) -> FakeOllama:
        return self.members[number]

    def __iter__(self) -> Iterator[FakeOllama]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.members]

    @property
    def ledgers(self) -> list[Ledger]:
        return [node.ledger for node in self.members]

    @property
    def open(self) -> int:
        """Requests for inference that run on any node now, or wait in it."""
        return sum(ledger.open for ledger in self.ledgers)

    @property
    def peaks(self) -> list[int]:
        """The most that each node ever had open at once."""
        return [ledger.peak for ledger in self.ledgers]

    @property
    def peak(self) -> int:
        """That of the node with the most."""
        return max(self.peaks)

    @property
    def loads(self) -> Counter[str]:
        """Started loads of each model, over all nodes."""
        return self._sum("loads")

    @property
    def unloads(self) -> Counter[str]:
        return self._sum("unloads")

    @property
    def requests(self) -> Counter[str]:
        """By path, probes included."""
        return self._sum("requests")

    @property
    def prompt_tokens(self) -> int:
        return sum(ledger.prompt_tokens for ledger in self.ledgers)

    @property
    def evaluated_tokens(self) -> int:
        return sum(ledger.evaluated_tokens for ledger in self.ledgers)

    @property
    def tokens_sent(self) -> int:
        return sum(ledger.tokens_sent for ledger in self.ledgers)

    @property
    def offers(self) -> list[int]:
        """How often each node was given the prompt that kills."""
        return [ledger.offers for ledger in self.ledgers]

    @property
    def served(self) -> list[int]:
        """Requests for inference that each node has answered to the end with 200, as far as it remembers."""
        return [sum(one.completed and one.status == 200 for one in ledger.inference) for ledger in self.ledgers]

    @property
    def inference(self) -> list[Exchange]:
        """All that the nodes remember, in the order of arrival."""
        exchanges = [one for ledger in self.ledgers for one in ledger.inference]
        return sorted(exchanges, key=lambda one: one.received_at)

    def clear(self) -> None:
        """Forget what was counted; what is open or loaded stays so."""
        for ledger in self.ledgers:
            ledger.clear()

    def running(self, model: str) -> list[FakeOllama]:
        """The nodes that have it in memory now."""
        return [node for node in self.members if model in node.shelf.loaded]

    async def until(self, predicate: Callable[["Nodes"], Any], timeout_s: float = WAIT_S) -> None:
        """Wait until `predicate(nodes)` holds; raises TimeoutError after `timeout_s`."""
        changed = asyncio.Event()
        for ledger in self.ledgers:
            ledger.watchers.add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while not predicate(self):
                    changed.clear()
                    await changed.wait()
        finally:
            for ledger in self.ledgers:
                ledger.watchers.discard(changed)

    async def until_idle(self, timeout_s: float = WAIT_S) -> None:
        await self.until(lambda nodes: nodes.open == 0, timeout_s)

    def _sum(self, name: str) -> Counter[str]:
        counts: list[Counter[str]] = [getattr(ledger, name) for ledger in self.ledgers]
        return sum(counts, Counter())


@asynccontextmanager
async def nodes(
    count: int, *, models: Mapping[int, tuple[Model, ...]] | None = None, **hardware: Any
) -> AsyncIterator[Nodes]:
    """So many nodes with the same `Hardware`; `models`: those of single nodes, by number, where they are not the usual.

    A node may be stopped and started again meanwhile, on the same port.
    """
    machine = Hardware(**hardware)
    fleet = Nodes([FakeOllama(models=(models or {}).get(number, MODELS), hardware=machine) for number in range(count)])
    try:
        for node in fleet:
            await node.start()
        yield fleet
    finally:
        for node in fleet:
            await node.stop()
