"""Thousands of connections that send or read next to nothing, and good clients beside them."""

import asyncio
import re
import resource
import shutil
import time
from pathlib import Path

import pytest

from tests.deploy.crowd import Crowd
from tests.deploy.stack import Stack

CONNECTIONS = 1_000
ATTACK_S = 30
CLIENTS = 6
PAUSE_S = 0.1
GOOD_SHARE_MIN = 0.999
ATTACKS = {
    "-H": ("-i", "10", "-x", "24"),  # headers that never end
    "-B": ("-s", "8192", "-i", "10", "-x", "16", "-t", "POST"),  # bodies that never end
    "-R": ("-a", "10", "-b", "3000", "-t", "GET"),  # headers that ask for thousands of ranges
}
FILES_MAX = 4_096
EXTRA_WAIT_S = 45
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


async def test_slow_clients_take_nothing_from_good_ones(stack: Stack, seed: str, tmp_path: Path) -> None:
    """All three at once: each has its thousand connections and its half a minute."""
    if not shutil.which("slowhttptest"):
        pytest.skip("slowhttptest is not installed")
    replicas = len(stack.containers("gateway"))
    stack.until_well("gateway", replicas)
    key = str(stack.new_key("good")["key"])
    crowd = Crowd(stack.url, [key], stack.trust(), seed, pause_s=PAUSE_S)
    began_s = time.monotonic()
    async with crowd.calling(CLIENTS):
        said = await asyncio.gather(*(attack(stack, kind, tmp_path) for kind in ATTACKS))
    good = sum(not one.failure for one in crowd.outcomes)
    for kind, (connected, status) in zip(ATTACKS, said, strict=True):
        print(f"\nslowhttptest {kind}: {connected} connections; {status}")
    print(
        f"good clients: {good} of {len(crowd.outcomes)} calls in {time.monotonic() - began_s:.0f} s\n{crowd.figures()}"
    )
    assert all(connected >= CONNECTIONS * 0.9 for connected, _ in said), "the attack did not happen"
    assert good >= GOOD_SHARE_MIN * len(crowd.outcomes)
    assert len(crowd.outcomes) >= CLIENTS * ATTACK_S
    stack.until_well("gateway", replicas)


async def attack(stack: Stack, kind: str, to: Path) -> tuple[int, str]:
    """For as long as all: one that has lost its connections begins again. Its most connections, and how it ended."""
    ends_s = time.monotonic() + ATTACK_S
    most, ended = 0, "never began"
    while (left_s := ends_s - time.monotonic()) > 1:
        connected, ended = await _attack_once(stack, kind, to / kind.strip("-"), round(left_s))
        most = max(most, connected)
    return most, ended


async def _attack_once(stack: Stack, kind: str, report: Path, seconds: int) -> tuple[int, str]:
    argv = (
        "slowhttptest", "-c", str(CONNECTIONS), kind, "-r", "200", "-l", str(seconds), "-p", "3", *ATTACKS[kind],
        "-g", "-o", str(report), "-u", f"{stack.url}/v1/chat/completions",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, preexec_fn=_raise_limits
    )
    async with asyncio.timeout(seconds + EXTRA_WAIT_S):
        out, _ = await process.communicate()
    rows = re.findall(r"^(\d+),(\d+),(\d+),(\d+),(\d+)$", report.with_suffix(".csv").read_text("utf-8"), re.MULTILINE)
    ended = re.findall(r"Exit status:[^A-Z]*(.+)", COLOURS.sub("", out.decode("utf-8", "replace")))
    return max((sum(map(int, row[1:])) for row in rows), default=0), (ended or ["?"])[-1].strip()


def _raise_limits() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_MAX, most), most))
