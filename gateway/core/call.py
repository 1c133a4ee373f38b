"""One call: what was asked, what admission granted, what it came to."""

from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.keys import Credential
from gateway.core.limits import Estimate
from gateway.core.trace import Trace
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

    def parts(self) -> list[bytes]: ...

    @property
    def context_tokens(self) -> int:
        """Of the context it asks for; 0: it does not say."""

    def encode(
        self, *, model: str, stream: bool, output_tokens_max: int, thinks: bool, context_tokens: int | None = None
    ) -> bytes: ...


class Call(Struct, frozen=True, kw_only=True):
    """A well-formed request from a well-formed key. `model` is canonical; times are monotonic milliseconds."""

    id: str
    credential: Credential
    source: str
    """the client's address, as `core.addresses.digits`"""
    address_hash: str = ""
    """the same, as rows tell it"""
    endpoint: str
    dialect: str = ""
    model: str
    streamed: bool
    """whether the client gets the answer as it is made"""
    by_line: bool
    """whether the backend is asked to stream it, which some whole answers need too"""
    upstream: Upstream
    estimate: Estimate
    began_ms: int
    end_user: str = ""
    wait_ms_max: int | None = None
    """how long it may wait for a backend, if the client says"""
    body_ms: int = 0
    """how long its body took to arrive, which is the client's time"""
    trace: Trace | None = None
    """that the call is part of"""
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
    """The limits a reply reports: of each kind the one that has least left, be it the key's, its team's or a model's.

    None where there is no such limit (or the key is not known).
    """

    requests: Level | None = None
    tokens: Level | None = None


def tightest(one: Levels, other: Levels) -> Levels:
    """Of each kind the limit that has less left."""

    def less(first: Level | None, second: Level | None) -> Level | None:
        return min((level for level in (first, second) if level), key=lambda level: level.left, default=None)

    return Levels(less(one.requests, other.requests), less(one.tokens, other.tokens))


class Admission(Struct, frozen=True):
    """A call was let in. `output_tokens_max` may be less than it asked for."""

    at_ms: int
    output_tokens_max: int
    levels: Levels
    shadow: str = ""
    """why it would have been refused, were its limits not in shadow"""
    weight: int = 1
    """of its key in the waiting line"""
    team_id: str = ""


class Queued(Struct, frozen=True):
    """Where a call is in the waiting line, the first being 1, and about how long it will be there."""

    position: int
    about_s: float


class Trip(Struct, frozen=True):
    """Where a call went: the backend, ms from its arrival until it was sent there, ms until the answer began."""

    backend: str
    queue_ms: int
    upstream_ms: int


class Course(Struct, frozen=True):
    """How a call came to the backend that answered it first: ms from its arrival until it was sent there, and how many
    of them it had waited for slots."""

    sent_ms: int
    waited_ms: int


class Bill(Struct, frozen=True, kw_only=True):
    """What a call came to. Redis knows the price of its admission, and charges it when the call is to be `paid`."""

    prompt_tokens: int
    completion_tokens: int
    paid: bool
    estimated: bool
    whole: bool
    """whether the answer ended by itself, so that its length says something about others"""
    detail: Detail
    course: Course | None = None
    """None: no backend was given it"""


class ModelLevels(Struct, frozen=True):
    """What the limits of some models' calls leave. `models` is the glob they are named by."""

    models: str
    levels: Levels


class Account(Struct, frozen=True, kw_only=True):
    """What a key or a team may do and has used this month. None: unlimited, or no credits kept.

    Spent and held are apart: what is held by running calls comes back in part when they end.
    """

    monthly_tokens: int | None
    tokens_spent: int
    tokens_held: int
    granted_micro: int | None
    charged_micro: int
    credit_held_micro: int
    concurrency: int | None
    running: int
    levels: Levels
    """of its own limits, for all models"""
    models: tuple[ModelLevels, ...] = ()
    shadow: dict[str, int] = {}
    """how many calls it would have refused, by reason, were its limits not in shadow"""
    used_ms: dict[str, int] = {}
    """last use of each of a key's secrets, by the first digits of its digest"""


class Statement(Struct, frozen=True, kw_only=True):
    """What a key is told of itself, or an operator of it. `models`: globs of those it may use; empty: all."""

    month: str
    models: tuple[str, ...]
    scopes: tuple[str, ...]
    key: Account
    team_id: str = ""
    team: Account | None = None

    @property
    def levels(self) -> Levels:
        """What headers tell of it: of key and team the tighter limits."""
        return self.key.levels if self.team is None else tightest(self.key.levels, self.team.levels)


class Limited(Struct, frozen=True, kw_only=True):
    """One limit that a call would meet. `whose`: key or team; `what`: requests, tokens, each also of a glob of models,
    concurrency, month, credits (millionths)."""

    whose: str
    what: str
    limit: int
    left: int
    needed: int
    left_after: int
    wait_ms: int


class Explanation(Struct, frozen=True, kw_only=True):
    """What admission would say. `reason` is "" for a call that would come in."""

    reason: str
    whose: str
    wait_ms: int | None
    output_tokens_max: int
    price_micro: int
    limits: tuple[Limited, ...]
