"""One command of this machine, within a bound; what it said is in the failure."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TAIL_CHARS = 4000


class CommandFailed(Exception):
    """A command ended badly or not in time. The message holds the end of what it said."""


class Said(str):
    """Standard output without the last line's end; `status` is the exit code, `errors` what went to standard error."""

    status: int
    errors: str


def run(
    *argv: str,
    wait_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes = "",
    check: bool = True,
) -> Said:
    """Raises `CommandFailed` when it takes longer than `wait_s`, and unless `check` is False, when it fails."""
    told = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=told,
            capture_output=True,
            timeout=wait_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{_named(argv)} took longer than {wait_s:g} s: {_tail(error.stderr)}") from None
    said = Said(done.stdout.decode("utf-8", "replace").rstrip("\n"))
    said.status, said.errors = done.returncode, done.stderr.decode("utf-8", "replace")
    if check and done.returncode:
        raise CommandFailed(f"{_named(argv)} ended with {done.returncode}:\n{_tail(done.stdout)}\n{_tail(done.stderr)}")
    return said


def _named(argv: Sequence[str]) -> str:
    return " ".join(argv)[:300]


def _tail(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", "replace")[-TAIL_CHARS:]
