"""A replica may open as many files as it can have without asking."""

import subprocess
import sys

BEFORE = 64


def test_the_limit_is_raised_to_what_is_allowed() -> None:
    """In a process of its own, for the limit is one of processes."""
    code = (
        "import resource\n"
        "from gateway.cli import open_files\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({BEFORE}, hard))\n"
        "open_files.allow_all()\n"
        "open_files.allow_all()\n"
        "print(hard, *resource.getrlimit(resource.RLIMIT_NOFILE), open_files.OPEN_FILES_MAX)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    hard, soft, hard_after, most = map(int, done.stdout.split())
    assert hard_after == hard
    assert soft == (most if hard < 0 else min(hard, most)) > BEFORE
