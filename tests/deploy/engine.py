"""A container engine: the one that answers, or in CI one of Debian's packages, started here and ended here."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

from tests.deploy.shell import CommandFailed, Said, run

ANSWER_WAIT_S = 5.0
START_WAIT_S = 60.0
STOP_WAIT_S = 60.0
INSTALL_WAIT_S = 300.0
POLL_S = 0.1
PACKAGES = {
    "dockerd": ["docker.io", "iptables"],
    "docker-compose": ["docker-compose"],
    "podman-compose": ["podman-compose"],
    "slowhttptest": ["slowhttptest"],
}
"""what CI installs where a command is missing"""
LIMITS = ("--default-ulimit", "nofile=8192:8192", "--default-ulimit", "nproc=8192:8192")
"""below the machine's own: a machine may not let the engine raise them"""


class NoEngine(Exception):
    """No engine answers, and none may be or can be started. The message says why."""


class Engine:
    """`start` before use; `log` receives the engine's output where it is started here."""

    def __init__(self, log: Path, *, ci: bool) -> None:
        self._log = log
        self._ci = ci
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises `NoEngine`."""
        if self._ci:
            _install([name for command, names in PACKAGES.items() if not shutil.which(command) for name in names])
        if self.answers():
            return
        if not self._ci:
            raise NoEngine("no container engine answers `docker info`")
        self._output = self._log.open("wb")
        self._process = subprocess.Popen(
            ["dockerd", *LIMITS],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_WAIT_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise NoEngine(f"dockerd did not start:\n{self._log.read_text('utf-8', 'replace')[-3000:]}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End what `start` has started, and nothing else."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_WAIT_S)
        if self._output:
            self._output.close()

    def answers(self) -> bool:
        try:
            return docker("info", wait_s=ANSWER_WAIT_S, check=False).status == 0
        except (CommandFailed, OSError):
            return False


def docker(
    *argv: str, wait_s: float = 60.0, check: bool = True, stdin: str | bytes = "", cwd: Path | None = None
) -> Said:
    return run("docker", *argv, wait_s=wait_s, check=check, stdin=stdin, cwd=cwd)


def has_image(name: str) -> bool:
    return docker("image", "inspect", name, check=False).status == 0


def _install(packages: list[str]) -> None:
    if not packages:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise NoEngine(f"{', '.join(packages)} are missing, and only root on a Debian may install them")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run("apt-get", "update", "-qq", wait_s=INSTALL_WAIT_S)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, wait_s=INSTALL_WAIT_S, env=quiet)
    except CommandFailed as error:
        raise NoEngine(str(error)) from None
