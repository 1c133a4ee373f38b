"""How long a client is ready to wait for a free backend."""

from collections.abc import Iterable

from gateway.errors import BadRequest

HEADER = "x-max-wait-ms"
DIGITS_MAX = 10
"""a longer number is as good as the largest of that length"""


def wait_ms_max(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """What the header says, 0 for not at all; None where it is not there. Raises `BadRequest`."""
    said = [value.strip() for name, value in headers if name == HEADER.encode()]
    if not said:
        return None
    if len(said) > 1 or not said[0].isdigit():
        raise BadRequest(f"The header {HEADER} must be one whole number of milliseconds, 0 or more.", param=HEADER)
    return int(said[0]) if len(said[0]) <= DIGITS_MAX else 10**DIGITS_MAX
