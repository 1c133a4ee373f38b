"""Processes of the gateway that start at once: forks of one that has imported everything already.

A replica imports for a second of a core, and the tests start hundreds. A fork runs `main`, as `python -m gateway` does,
in a process, session and environment of its own; signals, exit codes and logs are those of any process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gateway.dev.process import Child, ChildFailed, _die_with_parent

ROOT = Path(__file__).parents[1]
REQUEST_BYTES_MAX = 65_536
"""A request or an answer is one packet."""
COMMAND_S_MAX = 60.0
POLL_S = 0.005


class Zygote:
    """The process that forks, as its owner sees it. It ends when this object's socket is closed or its owner dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv, nothing = [sys.executable, "-m", "tests.zygote", str(theirs.fileno())], subprocess.DEVNULL
            subprocess.Popen(
                argv, cwd=ROOT, stdin=nothing, stdout=nothing, pass_fds=[theirs.fileno()], start_new_session=True
            )

    def ask(self, **request: Any) -> Any:
        with self._lock:
            self._socket.sendall(json.dumps(request).encode())
            return json.loads(self._socket.recv(REQUEST_BYTES_MAX))


@cache
def zygote() -> Zygote:
    """One for all children of this process."""
    return Zygote()


class Fork:
    """What `Child` needs of a process, here the zygote's."""

    def __init__(self, **request: Any) -> None:
        self.pid = int(zygote().ask(**request))
        self._returncode: int | None = None

    def poll(self) -> int | None:
        if self._returncode is None:
            self._returncode = zygote().ask(reap=self.pid)
        return self._returncode

    def send_signal(self, sig: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


class ForkedChild(Child):
    """A `Child` that runs the gateway's command line; `argv` is what follows `python -m gateway`."""

    def spawn(self) -> None:
        if self.running:
            raise ChildFailed(f"{self.name} runs already")
        env: Mapping[str, str] = os.environ if self._env is None else self._env
        log = str(self.log or os.devnull)
        self._process = Fork(argv=self.argv, env=dict(env), cwd=os.getcwd(), files=[os.devnull, log, log])


def run_command(*argv: str, env: Mapping[str, str], cwd: Path, text: str = "") -> "subprocess.CompletedProcess[str]":
    """`python -m gateway` with these arguments and this input, to its end."""
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, name) for name in ("in", "out", "err")]
        files[0].write_text(text)
        fork = Fork(argv=argv, env=dict(env), cwd=str(cwd), files=[str(file) for file in files])
        deadline = time.monotonic() + COMMAND_S_MAX
        while (code := fork.poll()) is None:
            assert time.monotonic() < deadline, argv
            time.sleep(POLL_S)
        return subprocess.CompletedProcess(argv, code, *(file.read_text() for file in files[1:]))


def serve(requests: socket.socket) -> None:
    """Fork and reap as asked, until nobody can ask any more."""
    while packet := requests.recv(REQUEST_BYTES_MAX):
        request = json.loads(packet)
        answer = _reaped(request["reap"]) if "reap" in request else _forked(requests, **request)
        requests.sendall(json.dumps(answer).encode())


def _reaped(pid: int) -> int | None:
    """Its return code, once; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _forked(requests: socket.socket, argv: list[str], env: dict[str, str], cwd: str, files: list[str]) -> int:
    die_with_parent = _die_with_parent(signal.SIGKILL)
    if pid := os.fork():
        return pid
    requests.close()
    os.setsid()
    if die_with_parent:
        die_with_parent()
    raise SystemExit(_command(argv, env, cwd, files))


def _command(argv: list[str], env: dict[str, str], cwd: str, files: list[str]) -> int:
    """The rest of this process's life."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, name in enumerate(files):
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT if number else os.O_RDONLY
        file = os.open(name, how, 0o666)
        os.dup2(file, number)
        os.close(file)
    from gateway.cli.main import main

    return main(argv)


def _import_everything() -> None:
    """Whatever a replica and a worker import by the time they serve; then nothing of it is looked at again."""
    import gc

    import asyncpg.pgproto.pgproto  # noqa: F401
    import uvicorn.lifespan.on
    import uvicorn.protocols.http.httptools_impl  # noqa: F401

    import gateway.app
    import gateway.cli.main
    import gateway.cli.serve
    import gateway.cli.worker  # noqa: F401
    import workers.lifecycle  # noqa: F401

    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _import_everything()
    serve(socket.socket(fileno=int(sys.argv[1])))
