"""Response headers that tell a client about its limits, in OpenAI's names. Pure."""

from gateway.core.call import Level, Levels, Trip
from gateway.errors import GatewayError

Headers = list[tuple[bytes, bytes]]

EXPOSED = (
    "x-request-id",
    "request-id",
    "retry-after",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-gateway-backend",
    "x-gateway-queue-ms",
    "x-gateway-upstream-ms",
)
"""What pages of other origins may read."""


def of_levels(levels: Levels | None) -> Headers:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens}; reset as OpenAI writes it, such as 1.5s."""
    if levels is None:
        return []
    return _of_level(b"requests", levels.requests) + _of_level(b"tokens", levels.tokens)


def of_trip(trip: Trip | None) -> Headers:
    """Where the call went, and how long that took."""
    if trip is None:
        return []
    return [
        (b"x-gateway-backend", trip.backend.encode()),
        (b"x-gateway-queue-ms", b"%d" % trip.queue_ms),
        (b"x-gateway-upstream-ms", b"%d" % trip.upstream_ms),
    ]


def of_error(error: GatewayError) -> Headers:
    """Retry-After where waiting helps, and the limits where they were looked at."""
    wait = [(b"retry-after", b"%d" % error.retry_after_s)] if error.retry_after_s is not None else []
    return wait + of_levels(error.levels)


def _of_level(kind: bytes, level: Level | None) -> Headers:
    if level is None:
        return []
    return [
        (b"x-ratelimit-limit-" + kind, b"%d" % level.limit),
        (b"x-ratelimit-remaining-" + kind, b"%d" % level.left),
        (b"x-ratelimit-reset-" + kind, f"{level.reset_ms / 1000:.3f}".rstrip("0").rstrip(".").encode() + b"s"),
    ]
