"""Response headers that tell a client about its limits: in OpenAI's names, and as the IETF's draft has them. Pure."""

from gateway.core.call import Admission, Level, Levels, Queued, Trip
from gateway.errors import GatewayError

Headers = list[tuple[bytes, bytes]]
WINDOW_S = 60
"""of every limit that is told in headers"""

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
    "ratelimit",
    "ratelimit-policy",
    "x-gateway-max-tokens",
    "x-queue-position",
    "x-gateway-backend",
    "x-gateway-queue-ms",
    "x-gateway-upstream-ms",
)
"""What pages of other origins may read."""


def of_levels(levels: Levels | None) -> Headers:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens}; reset as OpenAI writes it, such as 1.5s.

    RateLimit and RateLimit-Policy say the same as draft-ietf-httpapi-ratelimit-headers does: q a window of w seconds, r
    left, t seconds until it is whole.
    """
    if levels is None:
        return []
    named = {b"requests": levels.requests, b"tokens": levels.tokens}
    known = {name: level for name, level in named.items() if level is not None}
    if not known:
        return []
    policy = b", ".join(b'"%s";q=%d;w=%d' % (name, level.limit, WINDOW_S) for name, level in known.items())
    state = b", ".join(
        b'"%s";r=%d;t=%d' % (name, level.left, -(-level.reset_ms // 1000)) for name, level in known.items()
    )
    own = [header for name, level in known.items() for header in _of_level(name, level)]
    return [*own, (b"ratelimit-policy", policy), (b"ratelimit", state)]


def of_admission(admission: Admission | None, output_tokens_wanted: int) -> Headers:
    """The limits of an admitted call; and the cap of its answer, where an allowance made it less than was asked."""
    if admission is None:
        return []
    cap = admission.output_tokens_max
    shrunk = [(b"x-gateway-max-tokens", b"%d" % cap)] if cap < output_tokens_wanted else []
    return of_levels(admission.levels) + shrunk


def of_place(place: Queued | None) -> Headers:
    """Where in the waiting line the call was when it came, if it had to wait; the first is 1."""
    return [(b"x-queue-position", b"%d" % place.position)] if place else []


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


def _of_level(kind: bytes, level: Level) -> Headers:
    return [
        (b"x-ratelimit-limit-" + kind, b"%d" % level.limit),
        (b"x-ratelimit-remaining-" + kind, b"%d" % level.left),
        (b"x-ratelimit-reset-" + kind, f"{level.reset_ms / 1000:.3f}".rstrip("0").rstrip(".").encode() + b"s"),
    ]
