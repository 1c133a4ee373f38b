"""So many at a time, in the order of coming; beyond so many waiting it is full; who gives up holds nothing."""

import asyncio

import pytest

from gateway.errors import GatewayError, KeysNotLoaded, LimitsUnavailable, Overloaded, RequestsLimited
from gateway.gate import Gate
from tests.fakes import turns


class Crowd:
    """Calls that stay inside until they are let go."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._ends: dict[int, asyncio.Event] = {}
        self.inside: list[int] = []

    async def call(self, number: int) -> None:
        end = self._ends[number] = asyncio.Event()
        async with self._gate:
            self.inside.append(number)
            try:
                await end.wait()
            finally:
                self.inside.remove(number)

    async def leaves(self, number: int) -> None:
        self._ends[number].set()
        await turns(5)


async def test_so_many_at_a_time_and_then_in_the_order_of_coming() -> None:
    crowd = Crowd(Gate(2, 10))
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(crowd.call(number))
        await turns(5)
        assert crowd.inside == [0, 1]
        for number, left in ((1, [0, 2]), (0, [2, 3]), (2, [3, 4]), (3, [4]), (4, [])):
            await crowd.leaves(number)
            assert crowd.inside == left


async def test_it_is_full_while_so_many_wait() -> None:
    gate = Gate(1, 2)
    crowd = Crowd(gate)
    seen = []
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            seen.append(gate.full)
            group.create_task(crowd.call(number))
            await turns(3)
        seen.append(gate.full)
        for number in range(3):
            await crowd.leaves(number)
            seen.append(gate.full)
    assert seen == [False, False, False, True, False, False, False]


async def test_who_gives_up_or_fails_keeps_nobody_out() -> None:
    gate = Gate(1, 10)
    crowd = Crowd(gate)
    tasks = [asyncio.create_task(crowd.call(number)) for number in range(3)]
    await turns(3)
    for task in tasks[:2]:  # one that is inside, one that waits
        task.cancel()
    await turns(5)
    assert crowd.inside == [2]
    await crowd.leaves(2)
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(1), gate:
        assert not gate.full


async def test_too_many_hear_so_at_once_however_they_came() -> None:
    gate = Gate(1, 2)
    async with gate:
        waiting = [asyncio.create_task(crowd_of_one(gate)) for _ in range(5)]
        await turns(5)
        assert [one.done() for one in waiting] == [False, False, True, True, True]
        assert all(isinstance(one.exception(), Overloaded) for one in waiting[2:])
    await asyncio.gather(*waiting[:2])


async def test_nobody_waits_for_longer_than_so() -> None:
    gate = Gate(1, 10, wait_s_max=0.001)
    async with gate:
        with pytest.raises(Overloaded):
            await crowd_of_one(gate)
    await crowd_of_one(gate)


async def test_while_redis_answers_some_the_others_wait_on() -> None:
    """One node of a cluster may hang."""
    gate = Gate(1, 10)
    with pytest.raises(LimitsUnavailable):
        async with gate:
            waiting = [asyncio.create_task(crowd_of_one(gate)) for _ in range(3)]
            await turns(3)
            gate._listen(None)
            raise LimitsUnavailable
    await asyncio.gather(*waiting)


async def test_when_redis_gives_nobody_an_answer_the_others_do_not_wait_to_ask() -> None:
    gate = Gate(1, 10)
    with pytest.raises(LimitsUnavailable):
        async with gate:
            waiting = [asyncio.create_task(crowd_of_one(gate)) for _ in range(3)]
            await turns(3)
            raise LimitsUnavailable
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in outcomes] == [LimitsUnavailable] * 3
    await crowd_of_one(gate)


@pytest.mark.parametrize("error", [KeysNotLoaded, RequestsLimited])
async def test_what_one_is_refused_for_is_no_reason_for_the_others(error: type[GatewayError]) -> None:
    gate = Gate(1, 10)
    with pytest.raises(error):
        async with gate:
            waiting = asyncio.create_task(crowd_of_one(gate))
            await turns(3)
            raise error
    await waiting


async def test_who_is_cancelled_just_when_it_is_let_in_lets_in_the_next() -> None:
    gate = Gate(1, 10)
    async with gate:
        first, second = (asyncio.create_task(crowd_of_one(gate)) for _ in range(2))
        await turns(3)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    await asyncio.wait_for(second, 1)


async def crowd_of_one(gate: Gate) -> None:
    async with gate:
        pass
