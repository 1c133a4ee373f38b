"""A block that others may end: now or later, from outside its task or from inside; never what follows it."""

import asyncio

import pytest

from gateway.cut import Cut
from tests.fakes import turns


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_it_ends_when_another_task_says_so() -> None:
    cut, reached = Cut(), asyncio.Event()

    async def work() -> str:
        with cut:
            reached.set()
            await for_ever()
        return "after"

    task = asyncio.create_task(work())
    await reached.wait()
    cut.now()
    cut.now()
    assert await task == "after"
    assert cut.caught
    assert not task.cancelling()


async def test_it_ends_after_its_time() -> None:
    with Cut(0.001) as cut:
        await for_ever()
    assert cut.caught


async def test_what_ends_by_itself_was_not_cut() -> None:
    with Cut(60) as cut:
        await asyncio.sleep(0)
    cut.now()
    await turns(3)
    assert not cut.caught


async def test_who_cuts_itself_is_cut_where_it_waits_next() -> None:
    with Cut() as cut:
        cut.now()
        steps = ["still here"]
        await for_ever()
    assert cut.caught and steps


async def test_who_cuts_itself_and_waits_no_more_is_not_cut_afterwards() -> None:
    with Cut() as cut:
        cut.now()
    await turns(3)
    assert not cut.caught


async def test_what_cleans_up_may_wait() -> None:
    cleaned = False
    with Cut(0.001) as cut:
        try:
            await for_ever()
        finally:
            await turns(3)
            cleaned = True
    assert cut.caught and cleaned


async def test_an_error_of_the_block_goes_on() -> None:
    with pytest.raises(ValueError, match="x"), Cut() as cut:
        cut.now()
        raise ValueError("x")
    await turns(3)
    assert not cut.caught


async def test_a_cancelled_task_stays_cancelled() -> None:
    cut, reached = Cut(), asyncio.Event()

    async def work() -> None:
        with cut:
            reached.set()
            await for_ever()

    task = asyncio.create_task(work())
    await reached.wait()
    cut.now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not cut.caught


async def test_of_two_the_outer_one_ends_both() -> None:
    with Cut(0.001) as outer:
        with Cut(60) as inner:
            await for_ever()
        raise AssertionError("behind the inner one")
    assert (outer.caught, inner.caught) == (True, False)


async def test_of_two_at_once_each_ends_its_own() -> None:
    after = []
    with Cut() as outer:
        with Cut() as inner:
            asyncio.get_running_loop().call_soon(inner.now)
            await for_ever()
        after.append("inner")
        outer.now()
        await for_ever()
    assert (outer.caught, inner.caught, after) == (True, True, ["inner"])
