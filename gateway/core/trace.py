"""W3C trace context: which trace a call is part of, as HTTP headers say it (https://www.w3.org/TR/trace-context/).

What is malformed is as if it were not there: tracing never refuses a call.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

SAMPLED = 1
"""the bit of `flags` that says that somebody keeps the trace"""
STATE_CHARS_MAX = 512
STATE_MEMBERS_MAX = 32
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?", re.ASCII)
_NEVER, _FIRST = "ff", "00"
_MEMBER = re.compile(
    r"(?P<key>[a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]",
    re.ASCII,
)


class Trace(Struct, frozen=True, kw_only=True):
    """Ids in lower-case hex. `span_id` is what a backend is told as its parent: our own span, or the client's where we
    make none. `parent_id` is the client's where we do; "": the trace begins with us."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""
    """what others keep in the trace, passed on as it came"""
    parent_id: str = ""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    def headers(self) -> dict[str, str]:
        """As they are sent to a backend."""
        said = {"traceparent": f"{_FIRST}-{self.trace_id}-{self.span_id}-{self.flags:02x}"}
        return said | {"tracestate": self.state} if self.state else said


def presented(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """The context that a request came with; names of headers are in lower case. None: there is none to go by."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    if len(parents) != 1:
        return None
    found = _PARENT.fullmatch(parents[0].decode("latin-1").strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _NEVER or (version == _FIRST and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Trace(trace_id=trace_id, span_id=span_id, flags=int(flags, 16), state=_state(states))


def _state(values: list[bytes]) -> str:
    """All of it, or "" when it is malformed: half of it could be misread."""
    text = ",".join(value.decode("latin-1") for value in values)
    members = [one.strip(" \t") for one in text.split(",")]
    members = [one for one in members if one]
    keys = [found["key"] for one in members if (found := _MEMBER.fullmatch(one))]
    whole = len(keys) == len(members) == len(set(keys))
    return ",".join(members) if whole and len(text) <= STATE_CHARS_MAX and len(members) <= STATE_MEMBERS_MAX else ""
