"""A figure that stands for itself, outside the table of rounds."""

from msgspec import Struct

ERRORS = "errors"
"""a `what`; any of it fails the run"""


class Finding(Struct, frozen=True):
    """`what` has the unit in its words, as "KiB a stream"."""

    trial: str
    target: str
    what: str
    value: float
    noisy: bool = False
    """whether others used the cores meanwhile, where that changes it"""


def found_in(findings: list[Finding], trial: str, target: str, what: str) -> Finding | None:
    return next((one for one in findings if (one.trial, one.target, one.what) == (trial, target, what)), None)
