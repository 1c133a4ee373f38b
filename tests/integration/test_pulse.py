"""A stuck event loop ends its process, with a line that says where; a process that was merely stopped lives on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from gateway import loops as loops_module
from gateway import pulse as pulse_module
from gateway.loops import Loops
from gateway.pulse import CPU_EXIT_CODE, EXIT_CODE, LAG_HALF_S, Pulse
from gateway.telemetry.logs import Log
from tests.fakes import turns

END_S = 30.0
BUSY = "re.match('(a+)+$', 'a' * 60 + 'b')"
CONTAINED = ("unshare", "--pid", "--fork", "--kill-child", *(() if os.geteuid() == 0 else ("--map-root-user",)))
DEAD_S = 0.3
STARTED: "list[subprocess.Popen[str]]" = []


def log() -> tuple[Log, StringIO]:
    out = StringIO()
    return Log(lambda: 0.0, out), out


@pytest.fixture(autouse=True)
def killed() -> Iterator[None]:
    """A child that did not end as it should computes for ever."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.communicate()


def child(body: str, *under: str, **bounds: float) -> "subprocess.Popen[str]":
    """A process that beats on a loop and runs `body`, lines of a coroutine. It prints `up` first. `under`: a command
    that starts it."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    bound = "".join(f", {name}={value}" for name, value in {"dead_s": DEAD_S, **bounds}.items())
    code = (
        "import asyncio, re, sys, time\n"
        "from gateway import pulse\n"
        "from gateway.telemetry.logs import Log\n"
        "pulse.LOOK_S = pulse.BEAT_S = 0.02\n"
        "async def main():\n"
        f"    beating = asyncio.create_task(pulse.Pulse(Log(time.time){bound}).run())\n"
        "    await asyncio.sleep(0.1)\n"
        "    print('up', flush=True)\n"
        f"{lines}\n"
        "    beating.cancel()\n"
        "asyncio.run(main())"
    )
    pipe = subprocess.PIPE
    root = Path(__file__).parents[2]
    command = [*under, sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=root, stdout=pipe, stderr=pipe, stdin=pipe, text=True)
    STARTED.append(process)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return process


def test_a_blocked_loop_ends_the_process_and_says_where() -> None:
    process = child("time.sleep(600)")
    _, said = process.communicate(timeout=END_S)
    assert process.returncode == EXIT_CODE
    (line,) = [json.loads(one) for one in said.splitlines()]
    assert (line["event"], line["exit_code"], line["seconds"]) == ("loop_stuck", EXIT_CODE, DEAD_S)
    assert line["where"][-1] == "<string>:9"


def test_it_ends_also_when_nobody_reads_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop hangs in a write to a full pipe, and so would the line that says so."""
    process = child("sys.stderr.write('x' * 10_000_000)", dead_s=DEAD_S)
    assert process.wait(timeout=END_S) == EXIT_CODE
    assert process.stderr
    process.stderr.close()


def test_it_ends_also_where_no_other_thread_runs() -> None:
    """Such code never lets go of the interpreter, so that it is the kernel who counts."""
    process = child(BUSY, cpu_s=0.5)
    process.communicate(timeout=END_S)
    assert process.returncode == CPU_EXIT_CODE


def test_it_ends_also_as_the_first_process_of_a_container() -> None:
    """The kernel spares that one from signals that nothing handles."""
    try:
        subprocess.run([*CONTAINED, "true"], check=True, capture_output=True, timeout=END_S)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespace of processes may be made here: {error}")
    process = child(f"assert __import__('os').getpid() == 1\n{BUSY}", *CONTAINED, cpu_s=0.5)
    process.communicate(timeout=END_S)
    assert process.returncode == CPU_EXIT_CODE


def test_it_listens_on_when_the_log_is_gone() -> None:
    process = child("pulse.LATE_S = -1.0\nawait asyncio.sleep(0.1)\npulse.LATE_S = 1.0\nprint('told')\ntime.sleep(600)")
    assert process.stderr
    process.stderr.close()
    assert process.wait(timeout=END_S) == EXIT_CODE


async def test_a_heart_that_fails_is_told_and_beats_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "BEAT_S", 0.0)
    monkeypatch.setattr(loops_module, "RESTART_S", 0.0)
    a_log, out = log()
    clock = iter([0.0, 0.0, None, 7.0, 7.5])  # the third is no time
    pulse = Pulse(a_log, lambda: next(clock, 7.5))  # type: ignore[arg-type,return-value]
    async with Loops(a_log).running(pulse.run), asyncio.timeout(END_S):
        while pulse.largest_lag_s() != 0.5:
            await asyncio.sleep(0)
    (line,) = [json.loads(one) for one in out.getvalue().splitlines()]
    assert (line["event"], line["loop"], line["error"]) == ("loop_failed", "Pulse.run", "TypeError")


def test_a_process_that_was_stopped_as_a_whole_goes_on() -> None:
    process = child("await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)\nprint('done')")
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3 * DEAD_S)
    os.kill(process.pid, signal.SIGCONT)
    said, told = process.communicate("\n", timeout=END_S)
    assert (process.returncode, said, "loop_stuck" in told) == (0, "done\n", False)


async def test_the_largest_lag_is_told_to_everybody_until_the_window_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(pulse_module, "BEAT_S", 0.0)
    a_log, out = log()
    pulse = Pulse(a_log, lambda: now[0])
    beating = asyncio.create_task(pulse.run())
    await turns(3)

    async def late(*seconds: float) -> None:
        for late_s in seconds:
            asyncio.get_running_loop().call_soon(now.__setitem__, 0, now[0] + late_s)
            await turns(5)

    await late(0.4, 2.5, 0.1)
    assert [pulse.largest_lag_s() for _ in range(2)] == [pytest.approx(2.5)] * 2
    await late(*[0.5] * round(LAG_HALF_S / 0.5))
    assert pulse.largest_lag_s() == pytest.approx(2.5), "half of the window is not over"
    await late(*[0.5] * round(LAG_HALF_S / 0.5))
    assert pulse.largest_lag_s() == pytest.approx(0.5)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    (line,) = [json.loads(one) for one in out.getvalue().splitlines()]
    assert (line["event"], line["seconds"]) == ("loop_late", 2.5)
