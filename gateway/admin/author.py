"""Who changes something, and what comes back of it."""

from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Author(Struct, frozen=True, kw_only=True):
    """Who asks for a change, in which request."""

    name: str
    """`admin`, or what X-Admin-Actor claims"""
    request_id: str
    idempotency_key: str = ""
    """"": the request came without one"""
    fingerprint: str = ""
    """hex digest of its method, path and body"""


class Made(Struct, Generic[T], frozen=True):
    """The outcome of a change. `again`: the same was asked before and is not done twice; `what` is as it is now."""

    what: T
    again: bool


class Page(Struct, Generic[T], frozen=True):
    """Some of many, and the cursor of those that follow; None after the last."""

    items: list[T]
    after: str | None
