"""What processes and the machine have used: CPU time and memory, as /proc tells; and which core a process runs on."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

PROC = Path("/proc")
_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)


class Cores(Struct, frozen=True):
    """The core of what is measured, and that of everything else; the same where there is only one."""

    measured: int
    rest: int
    spare: frozenset[int] = frozenset()
    """those that nothing is put on"""

    @property
    def shared(self) -> bool:
        return self.measured == self.rest

    @property
    def used(self) -> set[int]:
        return {self.measured, self.rest}


def cores() -> Cores:
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1] if len(allowed) > 1 else allowed[0], frozenset(allowed[2:]))


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started meanwhile runs on that core for as long as it lives."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children = defaultdict[int, list[int]](list)
    for path in PROC.glob("[0-9]*/stat"):
        with suppress(*_GONE):
            children[int(_stat_fields(path.read_text())[1])].append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def cpu_ns(pids: list[int]) -> int:
    """CPU time that these processes have used, in user and kernel mode.

    From the scheduler's own count, which is exact; the ticks of /proc/PID/stat are as coarse as 10 ms.
    """
    return sum(_cpu_ns(pid) for pid in pids)


def _cpu_ns(pid: int) -> int:
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
        used = 0
        for task in tasks:
            with suppress(*_GONE):
                used += int((task / "schedstat").read_text().split()[0])
        return used or _ticks_ns(pid)
    except _GONE:
        return 0


def _ticks_ns(pid: int) -> int:
    fields = _stat_fields((PROC / str(pid) / "stat").read_text())
    return (int(fields[11]) + int(fields[12])) * _TICK_NS


def rss_kib(pids: list[int]) -> int:
    """Memory that these processes have resident."""
    total = 0
    for pid in pids:
        with suppress(*_GONE):
            lines = (PROC / str(pid) / "status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return total


class Machine(Struct, frozen=True):
    """What some cores have done since the machine started. `busy_ns` is without interrupts, which nobody owns."""

    cores: int
    busy_ns: int
    idle_ns: int
    stolen_ns: int


def machine(of: Cores) -> Machine:
    names = {f"cpu{core}" for core in of.used}
    busy = idle = stolen = 0
    for line in (PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            busy += sum(map(int, ticks[:3]))
            idle += sum(map(int, ticks[3:5]))
            stolen += int(ticks[7]) if len(ticks) > 7 else 0
    return Machine(len(names), busy * _TICK_NS, idle * _TICK_NS, stolen * _TICK_NS)


def mine_ns() -> int:
    """What this process, its descendants and those of them that have ended have used."""
    ended = os.times()
    return cpu_ns(tree(os.getpid())) + int((ended.children_user + ended.children_system) * 10**9)


def _stat_fields(text: str) -> list[str]:
    """From the third field on: the name before it may hold anything."""
    return text.rpartition(")")[2].split()
