"""How a replica ends when something goes wrong on the way: told, and no running call pays for it."""

import asyncio
import io
import json

import pytest

from gateway.app import END_S_MAX
from gateway.cli.doorstep import HANDSHAKES_S
from gateway.cli.ending import Ending
from gateway.cli.listener import LAST_BYTES_S, SETTLE_S
from gateway.deadline import Deadline
from gateway.outbox import Outbox
from gateway.running import Running
from gateway.telemetry.logs import Log
from tests.fakes import turns

STEPS = ["wind_down", "close_door", "quiet", "stop"]
DRAIN_S = 60.0
MESSAGE = "a canary of a message"


class Broken:
    """A door of which one step fails."""

    def __init__(self, fails: str = "") -> None:
        self._fails = fails
        self.took: list[str] = []

    def _step(self, name: str) -> None:
        self.took.append(name)
        if name == self._fails:
            raise AttributeError(MESSAGE)

    def wind_down(self) -> None:
        self._step("wind_down")

    async def close_door(self) -> None:
        self._step("close_door")

    async def quiet(self, idle_s: float) -> None:
        self._step("quiet")

    async def stop(self) -> None:
        self._step("stop")


class Scene:
    def __init__(self, *doors: Broken) -> None:
        self.out, self.running, self.done = io.StringIO(), Running(), asyncio.Event()
        self.running.start(self._call(), Outbox())
        log = Log(lambda: 0.0, self.out)
        self.ending = Ending(doors, self.running, log, balancer_s=0.0, drain_s=DRAIN_S)
        self.hurry: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _call(self) -> None:
        await self.done.wait()

    @property
    def told(self) -> list[tuple[str, str, str]]:
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [(line["event"], line["error"], line["step"]) for line in lines]


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_is_told_and_running_calls_have_their_time(step: str) -> None:
    public, other = Broken(step), Broken()
    scene = Scene(public, other)
    draining = asyncio.create_task(scene.ending.drain(scene.hurry))
    await turns(20)
    assert not draining.done(), "a call runs"
    scene.done.set()
    async with asyncio.timeout(DRAIN_S / 2):
        await draining
    await scene.ending.stop()
    assert [public.took, other.took] == [STEPS, STEPS]
    assert scene.told == [("ending_failed", "AttributeError", step)]
    assert MESSAGE not in scene.out.getvalue()


async def test_who_hurries_does_not_wait_for_calls() -> None:
    scene = Scene(Broken("quiet"))
    scene.hurry.set_result(None)
    await scene.ending.drain(scene.hurry)
    assert len(scene.running) == 1
    scene.done.set()
    await scene.running.drain(DRAIN_S)


def test_the_steps_of_an_end_share_their_time() -> None:
    now = [100.0]
    deadline = Deadline(5.0, lambda: now[0], least_s=0.5)
    now[0] = 200.0
    assert deadline.left_s() == 5.0, "counted from the first question"
    now[0] = 203.0
    assert deadline.left_s() == 2.0
    now[0] = 300.0
    assert deadline.left_s() == 0.5


def test_the_time_to_settle_is_enough() -> None:
    """Two ports whose clients take nothing, and a Redis that is away."""
    assert HANDSHAKES_S + 2 * LAST_BYTES_S + END_S_MAX < SETTLE_S
