"""One child server: started in a session of its own, stopped within a bound, never left behind.

The session keeps a terminal's Ctrl-C from reaching servers before `up` stops them in order. On Linux a child is sent
its `death_signal` by the kernel when its parent dies, so that not even kill -9 of the parent leaves a process. That is
tied to the *thread* that called `spawn`: call it from one that lives as long as the child may (the main thread).
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.dev.places import CannotStart

STOP_WAIT_S = 10.0
KILL_WAIT_S = 5.0
POLL_S = 0.01
TAIL_LINES = 15
TAIL_BYTES_MAX = 16_384
_PR_SET_PDEATHSIG = 1


class ChildFailed(CannotStart):
    """A child server did not start or did not become ready. The message holds the end of its log."""


class Child:
    """A command that runs as a server in the foreground. `log` receives its output, appended; None discards it."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        user: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self._env = dict(env) if env is not None else None
        self._death_signal = death_signal
        self._user = user
        self._pass_fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id while it runs; 0 before it was started."""
        return self._process.pid if self._process else 0

    @property
    def returncode(self) -> int | None:
        """None while it runs (or was never started); negative: the signal that ended it."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start it. Raises `ChildFailed` when the command cannot be run at all."""
        if self.running:
            raise ChildFailed(f"{self.name} runs already")
        output = self.log.open("ab") if self.log else None
        try:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                pass_fds=self._pass_fds,
                preexec_fn=_die_with_parent(self._death_signal),  # it only calls the kernel
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else (),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ChildFailed(f"{self.name} cannot be started: {error}") from error
        finally:
            if output:
                output.close()

    async def exited(self, timeout_s: float) -> bool:
        """Wait for its end, at most `timeout_s`. Whether it has ended."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.running:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def stop(self, sig: signal.Signals = signal.SIGTERM, wait_s: float = STOP_WAIT_S) -> int | None:
        """Ask it to end with `sig`; kill it when it still runs after `wait_s`. Its return code."""
        if self.running and self._process:
            self._process.send_signal(sig)
            if not await self.exited(wait_s):
                await self.kill()
        return self.returncode

    async def kill(self) -> None:
        """SIGKILL to it and whatever stayed in its session, then wait until it is gone."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            await self.exited(KILL_WAIT_S)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its log, for people; empty without a log."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES_MAX))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def failure(self, reason: str) -> ChildFailed:
        """What to raise about it: the reason, then the end of its log."""
        return ChildFailed("\n".join(filter(None, (f"{self.name} {reason}", self.tail()))))


def _die_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    """What the new process runs before its program: the kernel is to send `sig` when the parent is gone."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return before_exec
