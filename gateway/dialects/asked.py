"""What every dialect makes of a request body, and what turns the answer back: the two halves of a spoke."""

import math
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from gateway.core.call import Queued, Upstream
from gateway.core.tally import Counts
from gateway.dialects.frames import comment
from gateway.dialects.ollama import Reply
from gateway.errors import GatewayError


class Renderer(Protocol):
    """Turns the hub's answer to one call into the client's dialect. Pure; one is made for each call.

    `counts` are those of the bill, which may differ from what the backend says.
    """

    content_type: bytes = b"text/event-stream; charset=utf-8"
    """of a streamed answer; a whole one is application/json"""
    beat: bytes = b": keep-alive\n\n"
    """what says to a client, and to proxies between, that the answer is still being made; b"" where nothing can"""
    ended: bool = False
    """whether the answer is complete although the backend would go on"""

    def queued(self, place: Queued) -> bytes:
        """What says where in the waiting line the call is; b"" where nothing can."""
        words = f"queue position {place.position}, about {max(1, math.ceil(place.about_s))} s"
        return comment(words) if self.beat else b""

    def feed(self, reply: Reply) -> bytes:
        """The frames for one line of the answer, which is not its last."""

    def part(self, reply: Reply) -> bytes:
        """The frames that end the answer to one of several prompts, which is not the last of them."""
        return b""

    def last(self, reply: Reply, counts: Counts) -> bytes:
        """The frames that end the stream, from its final line."""

    def whole(self, reply: Reply, counts: Counts) -> bytes:
        """The body of an answer that is not streamed."""

    def error(self, error: GatewayError) -> bytes:
        """The frames of a failure after the stream began, which are its last."""


class Asked(Struct, frozen=True, kw_only=True):
    """A request in the hub's terms. `model` is as the client spelt it, "" where it says none."""

    model: str
    upstream: Upstream
    further: tuple[Upstream, ...] = ()
    """the other prompts, where the request has several; `output_tokens_max` is for each"""
    renderer: Callable[[str, int], Renderer]
    """(call id, unix seconds)"""
    streamed: bool = False
    collected: bool = False
    """whether the backend is to stream although the client gets one object"""
    output_tokens_max: int | None = None
    end_user: str = ""


class Dialect(Struct, frozen=True):
    """One API surface: whose it is, its parser and its errors."""

    name: str
    """openai, anthropic, ollama, plain"""
    parse: Callable[[bytes], Asked]
    """raises msgspec.ValidationError, msgspec.DecodeError or BadRequest"""
    render_error: Callable[[GatewayError, str], tuple[int, bytes]]
    """(error, request id) to HTTP status and body"""
    request_id_headers: tuple[bytes, ...] = (b"x-request-id",)
    has_default_model: bool = False
    """whether a request may leave out which model it wants"""
