"""`make chaos`: everything is killed at random under load, and in the end every call is one row.

CHAOS=long for 100 kills instead of 20.
"""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.checker import check
from tests.chaos.crowd import Crowd
from tests.chaos.scene import chaos
from tests.chaos.victims import Killer

KILLS = 100 if os.environ.get("CHAOS") == "long" else 20
CLIENTS = 24
WARM_CALLS = 60
AFTER_CALLS = 60
"""calls that are answered before the first kill, and after the last"""
WARM_S_MAX = 20.0
RUN_S_MAX = 300 + 10 * KILLS


@pytest.mark.timeout(RUN_S_MAX)
async def test_every_call_is_one_row_through_every_kill(short_dir: Path, seed: str) -> None:
    async with chaos(short_dir) as scene:
        crowd = Crowd([url for _, url in scene.world.replicas], scene.accounts, seed)
        killer = Killer(scene.victims(), crowd, random.Random(seed))
        load = asyncio.create_task(crowd.run(CLIENTS))
        await crowd.served(WARM_CALLS, WARM_S_MAX)
        await killer.run(KILLS)
        await crowd.served(AFTER_CALLS, WARM_S_MAX)
        crowd.stop()
        await load
        stopped_s = time.monotonic()
        await scene.until_quiet()
        quiet_s = time.monotonic() - stopped_s

        ledgers = await scene.ledgers(crowd.calls, killer.faults)
        findings = check(ledgers)
        print(*report.lines(ledgers, findings, quiet_s), *ledgers.faults, *findings, sep="\n")
        assert not findings
        assert {fault.kind for fault in ledgers.faults} == {"gateway", "worker", "redis", "postgres", "node"}
        reconciled = await scene.reconcile()
        assert reconciled.returncode == 0, reconciled
