"""The headers of answers, as the OpenAPI document lists them."""

from typing import Any

from gateway.web.schema.failures import REQUEST_ID

_SECONDS = r"^\d+(\.\d+)?s$"
_LISTED = r'^"[a-z]+";{0}=\d+;{1}=\d+(, "[a-z]+";{0}=\d+;{1}=\d+)*$'
_RATE = "per minute, where there is such a limit: of the key, its team or the model, whichever has least left."


def _header(about: str, schema: dict[str, Any], example: Any, *, required: bool = False) -> dict[str, Any]:
    return {"description": about, "required": required, "schema": schema, "example": example}


def _level(kind: str, of: str, example: int) -> dict[str, dict[str, Any]]:
    count = {"type": "integer", "minimum": 0}
    return {
        f"x-ratelimit-limit-{kind}": _header(f"The limit of {of} {_RATE}", count, example),
        f"x-ratelimit-remaining-{kind}": _header(f"What is left of the {of} {_RATE}", count, example - 1),
        f"x-ratelimit-reset-{kind}": _header(
            f"How long until the {of} are whole again.", {"type": "string", "pattern": _SECONDS}, "1.5s"
        ),
    }


_ID = {"type": "string", "minLength": 1}
HEADERS: dict[str, dict[str, Any]] = {
    "x-request-id": _header("Names this request in logs and usage rows.", _ID, REQUEST_ID, required=True),
    "request-id": _header("The same, where Anthropic's clients look for it.", _ID, REQUEST_ID),
    "retry-after": _header(
        "Whole seconds, where waiting helps; the same request can succeed after them.",
        {"type": "integer", "minimum": 0},
        2,
    ),
    "allow": _header("The methods that the route takes.", {"type": "string"}, "POST"),
    **_level("requests", "requests", 20),
    **_level("tokens", "tokens", 10_000),
    "ratelimit-policy": _header(
        "The same limits as the IETF's draft writes them: q in each window of w seconds.",
        {"type": "string", "pattern": _LISTED.format("q", "w")},
        '"requests";q=20;w=60, "tokens";q=10000;w=60',
    ),
    "ratelimit": _header(
        "What is left of them (r), and in how many seconds they are whole again (t).",
        {"type": "string", "pattern": _LISTED.format("r", "t")},
        '"requests";r=19;t=3, "tokens";r=9999;t=1',
    ),
    "x-gateway-max-tokens": _header(
        "The cap of this answer, where an allowance makes it less than was asked for.",
        {"type": "integer", "minimum": 0},
        120,
    ),
    "x-queue-position": _header(
        "Where in the waiting line the call was when it came, if it had to wait for a backend; the first is 1.",
        {"type": "integer", "minimum": 1},
        3,
    ),
}
"""by name, as components"""
LEVELS = tuple(name for name in HEADERS if "ratelimit" in name)
OK, UNAVAILABLE = 200, 503
WAITING = (429, 503)
"""statuses that may come with Retry-After"""


def listed(status: int, *, levels: bool, anthropic: bool) -> dict[str, Any]:
    """References to those that an answer of that status may have."""
    names = ["x-request-id"]
    names += ["request-id"] if anthropic else []
    names += ["retry-after"] if status in WAITING else []
    names += ["allow"] if status == 405 else []
    names += LEVELS if levels else []
    names += ["x-gateway-max-tokens"] if levels and status == OK else []
    names += ["x-queue-position"] if (levels and status == OK) or status == UNAVAILABLE else []
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
