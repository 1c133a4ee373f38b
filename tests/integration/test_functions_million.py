"""A million admissions, from four processes, on the real clock: not a unit is lost or made.

A fifth of them where neither CI nor LONG is set: a million takes a minute and a half of one processor.
"""

import asyncio
import multiprocessing
import os
import time
from array import array
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from gateway.core.limits import Limits
from gateway.core.record import KeyRecord, Spent
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Functions
from gateway.state.pipe import Pipe
from tests.buckets import Kept, kept, per_minute
from tests.fakes import MONTH, record
from tests.integration.hammer import Job, Target, admit_many
from tests.integration.prepared import admission
from tests.ledger import Entry, balance, in_order, overshoot

ADMISSIONS = 1_000_000 if {"CI", "LONG"} & set(os.environ) else 200_000
PROCESSES = 4
AT_ONCE = 200
"""keys that are published"""
ZIPF_KEYS = 10_000
TPM = (60_000_000, 120_000)
"""of the hot key, of each of the others"""
SECONDS_MAX = 600
REDIS_TIMEOUT_MS = 5_000


async def prepare(url: str) -> list[Target]:
    """The hot key, and the others."""
    pipe = Pipe(url, REDIS_TIMEOUT_MS)
    pipe.start()
    functions = Functions(pipe)
    directory = KeyDirectory(pipe, functions, 1)
    await functions.load()
    found = []
    for start in range(0, 1 + ZIPF_KEYS, AT_ONCE):
        some = range(start, min(start + AT_ONCE, 1 + ZIPF_KEYS))
        found += await asyncio.gather(*(target(directory, number) for number in some))
    assert await directory.mark_ready(0, await directory.begin(0))
    await pipe.close()
    return found


async def target(directory: KeyDirectory, number: int) -> Target:
    key_id, limits = f"{number:010d}", Limits(tokens_per_min=TPM[number > 0])
    await directory.publish(KeyRecord(replace(record(limits).key, id=key_id), limits), Spent(month=MONTH))
    admit = await admission(key_id, "")
    return Target(admit, (f"{{s00}}:buckets:{key_id}", "tokens"), f"{{s00}}:running:{key_id}")


def hammer(url: str, seed: str, targets: list[Target]) -> tuple[dict[int, list[Entry]], int]:
    """What each key was let take, in order; how many calls were refused."""
    jobs = [Job(url, n, f"{seed}:{n}", ADMISSIONS // PROCESSES, targets) for n in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as processes:
        done = processes.map(admit_many, jobs, chunksize=1)
    ledgers: dict[int, list[Entry]] = defaultdict(list)
    for rows, _ in done:
        numbers = array("q", rows)
        for target, cost, at_us, level in zip(*(numbers[i::4] for i in range(4)), strict=True):
            ledgers[target].append(Entry(cost, at_us, level))
    return {number: in_order(entries) for number, entries in ledgers.items()}, sum(refused for _, refused in done)


def full_at(target: int, at_us: int) -> Kept:
    """A bucket that nobody has drawn from is full."""
    rate = per_minute(TPM[target > 0])
    return Kept(rate.full, at_us, rate.den)


def of_each(client: Any, numbers: Iterable[int], kind: str) -> dict[int, dict[bytes, bytes]]:
    """A hash of each key. The account counts admissions: each holds one token of the month, its prompt at most."""
    pipeline = client.pipeline(transaction=False)
    for number in numbers:
        pipeline.hgetall(f"{{s00}}:{kind}:{number:010d}")
    return dict(zip(numbers, pipeline.execute(), strict=True))


@pytest.mark.timeout(SECONDS_MAX)
def test_a_million_admissions_lose_and_make_no_token(redis_url: str, seed: str) -> None:
    targets = asyncio.run(prepare(redis_url))
    began = time.monotonic()
    ledgers, refused = hammer(redis_url, seed, targets)
    seconds = time.monotonic() - began
    with redis.Redis.from_url(redis_url) as client:
        ends, counts = of_each(client, ledgers, "buckets"), of_each(client, ledgers, "account")
    admitted = cut_off = error = over = 0
    for number, entries in ledgers.items():
        rate = per_minute(TPM[number > 0])
        left = ends[number].get(b"tokens")
        end = kept(left) if left else Kept(entries[-1].level, entries[-1].at_us, rate.den)
        counted = sum(int(held) for field, held in counts[number].items() if field.startswith(b"held:"))
        found = balance(rate, full_at(number, entries[0].at_us), end, entries, counted)
        admitted, cut_off, error = admitted + len(entries), cut_off + (found.cut_off > 0), error + found.error
        over = max(over, overshoot(rate, entries))
    print(
        f"\n{admitted:,} admissions and {refused:,} refusals from {PROCESSES} processes in {seconds:.0f} s: "
        f"{admitted / seconds:,.0f} and {(admitted + refused) / seconds:,.0f} a second; {len(ledgers[0]):,} on the hot "
        f"key, {len(ledgers) - 1:,} other keys, {cut_off:,} buckets were full in between; error {error}"
    )
    assert admitted >= ADMISSIONS
    assert len(ledgers) > ZIPF_KEYS // 2
    assert 0 < cut_off < len(ledgers)
    assert error == 0
    assert over <= 0
