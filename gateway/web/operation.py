"""An operation of the API: one method of one route, as the OpenAPI document describes it."""

from typing import Any, Literal

from msgspec import Struct, field

from gateway.web.schema.failures import Family

Access = Literal["key", "admin", "puller", "anyone"]
REFUSALS = (400, 401, 403, 404, 408, 413, 415, 429)
FAILURES = (500, 502, 503, 504)
CALL = REFUSALS + FAILURES
LOOK = (400, 401, 500, 503)
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"


class Parameter(Struct, frozen=True):
    """In the path, or in the query or a header, where it may be left out. `schema` is that of JSON."""

    name: str
    place: Literal["path", "query", "header"]
    example: Any
    about: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})


class Streamed(Struct, frozen=True):
    """The other form of an answer: what one event or line holds, which may be one of several things."""

    content_type: str
    items: tuple[Any, ...]
    end: str = ""
    """what the last event of a whole stream holds in place of an item"""
    unasked: bool = False
    """whether a request that does not say gets this form"""


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one route. `errors` are the statuses it may answer beside `status`, in the form of its family."""

    method: Literal["get", "post", "delete", "patch", "put"]
    path: str
    id: str
    summary: str
    about: str = ""
    """what a newcomer has to know"""
    tag: str
    access: Access = "key"
    family: Family = "openai"
    limits: bool = False
    """whether its answers say what the key's limits leave"""
    parameters: tuple[Parameter, ...] = ()
    request: Any = None
    example: dict[str, Any] | None = None
    """a request body"""
    status: int = 200
    status_again: int | None = None
    """of an answer like that to a request that changes nothing, for it was carried out before"""
    answer: Any = None
    """None: it only ever fails"""
    content_type: str = "application/json"
    streamed: Streamed | None = None
    sheet: bool = False
    """whether the answer may be had as CSV"""
    errors: tuple[int, ...]
