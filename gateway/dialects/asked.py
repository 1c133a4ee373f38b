"""What every dialect makes of a request body: the hub's request and what the gateway must know beside it."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from gateway.core.call import Upstream
from gateway.core.tally import Counts
from gateway.dialects.ollama import Reply
from gateway.errors import GatewayError


class Prompt(Struct, frozen=True):
    """The size of a prompt: UTF-8 bytes of all its text, messages, images."""

    text_bytes: int
    messages: int
    images: int


class Asked(Struct, frozen=True, kw_only=True):
    """A request in the hub's terms. `model` is as the client spelt it, "" for the default one."""

    model: str
    upstream: Upstream
    prompt: Prompt
    streamed: bool = False
    include_usage: bool = False
    output_tokens_max: int | None = None
    end_user: str = ""


class Renderer(Protocol):
    """Turns the hub's answer to one call into the client's dialect. Pure; one is made for each call.

    `counts` are those of the bill, which may differ from what the backend says.
    """

    content_type: bytes
    """of a streamed answer; a whole one is application/json"""

    def feed(self, reply: Reply) -> bytes: ...

    def last(self, reply: Reply, counts: Counts) -> bytes: ...

    def whole(self, reply: Reply, counts: Counts) -> bytes: ...

    def error(self, error: GatewayError) -> bytes: ...


class Dialect(Struct, frozen=True):
    """One API surface: its parser, its renderer, its errors."""

    parse: Callable[[bytes], Asked]
    """raises msgspec.ValidationError, msgspec.DecodeError or BadRequest"""
    renderer: Callable[[Asked, str, int], Renderer]
    """(request, call id, unix seconds)"""
    render_error: Callable[[GatewayError], tuple[int, bytes]]
