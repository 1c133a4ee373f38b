"""One call: what was asked, what admission granted, what it came to."""

from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.keys import Credential
from gateway.core.limits import Estimate
from gateway.core.usage import Detail


class PromptSize(Protocol):
    """UTF-8 bytes of all text of a prompt, its messages, its images."""

    @property
    def text_bytes(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def images(self) -> int: ...


class Upstream(Protocol):
    """A request in the hub's dialect, as it is sent to a backend."""

    @property
    def path(self) -> str: ...

    def size(self) -> PromptSize: ...

    def encode(self, *, model: str, stream: bool, output_tokens_max: int, thinks: bool) -> bytes: ...


class Call(Struct, frozen=True, kw_only=True):
    """A well-formed request from a well-formed key. `model` is canonical; times are monotonic milliseconds."""

    id: str
    credential: Credential
    endpoint: str
    model: str
    streamed: bool
    """whether the client gets the answer as it is made"""
    by_line: bool
    """whether the backend is asked to stream it, which some whole answers need too"""
    upstream: Upstream
    estimate: Estimate
    began_ms: int
    end_user: str = ""
    further: tuple[Upstream, ...] = ()
    """asked after `upstream`, one after the other: the other prompts of a list of them"""

    def parts(self) -> list["Call"]:
        """The call once for each request to a backend, in their order."""
        return [self, *(replace(self, upstream=one) for one in self.further)]


class Level(Struct, frozen=True):
    """One limit as the client is told of it; reset is milliseconds until it is whole again."""

    limit: int
    left: int
    reset_ms: int


class Levels(Struct, frozen=True):
    """The limits a reply reports; None where the key has no such limit (or the key is not known)."""

    requests: Level | None = None
    tokens: Level | None = None


class Admission(Struct, frozen=True):
    """A call was let in. `output_tokens_max` may be less than it asked for."""

    at_ms: int
    output_tokens_max: int
    levels: Levels


class Trip(Struct, frozen=True):
    """Where a call went: the backend, ms from its arrival until it was sent there, ms until the answer began."""

    backend: str
    queue_ms: int
    upstream_ms: int


class Bill(Struct, frozen=True, kw_only=True):
    """What a call came to. `credits_micro` is what it earned; Redis never charges beyond what was reserved."""

    prompt_tokens: int
    completion_tokens: int
    credits_micro: int
    estimated: bool
    detail: Detail


class Statement(Struct, frozen=True, kw_only=True):
    """What a key may do and has used this month. None: unlimited, or no credits kept."""

    month: str
    monthly_tokens: int | None
    tokens_spent: int
    tokens_held: int
    credit_micro: int | None
    credit_held_micro: int
    concurrency: int | None
    running: int
    levels: Levels
