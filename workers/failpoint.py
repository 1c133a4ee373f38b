"""Failpoints: where tests make a worker crash. In service nothing happens there."""

from collections.abc import Callable

Failpoint = Callable[[str], None]
"""Called with a step of `STEPS`, behind "before " or "after ". Tests make it raise or kill."""

STEPS = ("read", "insert", "commit", "set_aside", "ack", "reap")


def go_on(step: str) -> None:
    """Nothing."""
