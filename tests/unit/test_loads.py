"""A load goes on when the call that began it does not, until the model is there."""

import asyncio

import pytest

from gateway.backends import loads as loads_module
from gateway.errors import BackendFault
from tests.fake_replica import Replica
from tests.fakes import MODEL, turns

TURNS = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads_module, "LOOK_S", 0.005)


async def abandoned(replica: Replica) -> asyncio.Event:
    """A call has begun a load and left; the event is the model's first byte."""
    first_byte = asyncio.Event()
    replica.client.scripts["a"] = [first_byte]
    asking = asyncio.create_task(replica.ask())
    await turns(TURNS)
    assert replica.placement.loads == {"a": (next(iter(replica.placement.held)), MODEL)}
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return first_byte


async def settled(replica: Replica) -> None:
    async with asyncio.timeout(5), replica.running():
        while replica.placement.held:
            await asyncio.sleep(0)


async def test_a_load_outlives_its_caller_with_its_slot_until_the_first_byte() -> None:
    replica = Replica("a", loaded=False)
    first_byte = await abandoned(replica)
    await replica.seats.settle()
    assert (replica.seats.held, replica.placement.busy("a")) == (1, 1)
    first_byte.set()
    await settled(replica)
    assert (replica.placement.loads, replica.client.responses[0].closed) == ({}, True)
    assert replica.placement._loaded == {("a", MODEL): replica.placement.now_ms}, "those who wait can have it"


async def test_it_ends_when_the_node_lists_the_model() -> None:
    replica = Replica("a", loaded=False)
    await abandoned(replica)
    replica.saw("a", loaded=True)
    await settled(replica)
    assert replica.placement._loaded == {("a", MODEL): replica.placement.now_ms}


async def test_a_load_that_fails_frees_its_slot_and_is_no_load() -> None:
    replica = Replica("a", loaded=False)
    replica.client.scripts["a"] = [BackendFault("no memory")]
    with pytest.raises(BackendFault):
        await replica.ask()
    await settled(replica)
    assert (replica.placement.loads, replica.placement._loaded) == ({}, {})


async def test_a_load_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads_module, "LOAD_S_MAX", 0.02)
    replica = Replica("a", loaded=False)
    await abandoned(replica)
    await settled(replica)
    assert (replica.placement.loads, replica.placement._loaded) == ({}, {})


async def test_a_caller_that_stays_has_the_answer_and_the_model_is_told_of() -> None:
    replica = Replica("a", loaded=False)
    async with replica.exchange() as tally:
        await replica.seats.settle()
        assert (tally.backend, replica.placement.loads) == ("a", {})
        assert replica.placement.busy("a") == 1, "it still answers"


async def test_a_call_to_a_loaded_model_ends_with_its_client() -> None:
    replica = Replica("a", loaded=True)
    replica.client.scripts["a"] = [asyncio.Event()]
    asking = asyncio.create_task(replica.ask())
    await turns(TURNS)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await replica.seats.settle()
    assert replica.placement.held == {}


async def test_closing_ends_what_goes_on() -> None:
    replica = Replica("a", loaded=False)
    await abandoned(replica)
    await replica.loads.close()
    await settled(replica)
    assert replica.seats.held == 0
