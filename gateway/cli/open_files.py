"""How many files and connections this process may have open."""

import resource
from contextlib import suppress

OPEN_FILES_MAX = 1_048_576
"""more is of no use, and where all is allowed some systems refuse it"""


def allow_all() -> None:
    """As many as may be had without asking anybody: the limit that processes begin with is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a system with a limit of its own; then it stays as it was
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
