"""What is said between a replica and the fleet's functions in Redis: who asks for a slot, who got one, what is new."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.core.breaker import Breaker
from gateway.core.fleet import Registry
from gateway.core.routing import WHOLE_NODE, Candidate, Rates, Unfit

LINE_FULL = "line_full"
"""why a call is turned away for the moment, where there is no objection to its model"""
STATE, LISTING, BREAKER = "state", "models", "breaker"
"""kinds of what replicas tell each other of a node"""


def told_name(kind: str, backend: str, model: str = "") -> str:
    """What a message about a backend, or one model there, is called."""
    return f"{kind}:{backend} {model}" if model else f"{kind}:{backend}"


def breaker_name(backend: str, model: str = WHOLE_NODE) -> str:
    return told_name(BREAKER, backend, model)


class Ask(Struct, frozen=True, kw_only=True):
    """One attempt of a call that needs a slot. `id` is the attempt's own."""

    id: str
    key_id: str
    weight: int
    """of the key in the waiting line"""
    model: str
    tokens: int
    """that the call is expected to come to, prompt and answer"""
    candidates: list[Candidate]
    lookups: list[str]
    """digests of the beginnings of its prompt, the longest first"""
    records: list[str]
    """digests of those that its node will have in mind afterwards"""
    home_ms: int = 0
    """how long it had rather wait for the node that has its beginning in mind than go to another one"""


class Placed(Struct, frozen=True):
    """A slot on a backend. `loads`: it has to load the model; `cached`: it served the beginning of the prompt last."""

    backend: str
    loads: bool
    cached: bool


class Waiting(Struct, frozen=True):
    """About how many calls get a slot before this one, itself counted, and how many wait for its model."""

    position: int
    depth: int


class Full(Struct, frozen=True):
    """The line for the model is as long as it may be."""

    depth: int


class Foreseen(Struct, frozen=True, kw_only=True):
    """What would become of a call. `verdict` None: no backend can take it."""

    verdict: Placed | Waiting | Full | None = None
    ranked: tuple[Candidate, ...] = ()
    """the backends that can take it, the best first"""
    unfit: Mapping[str, Unfit] = {}
    """why the others cannot, by name"""
    affinity: str = ""
    """the backend that served the longest known beginning of its prompt last"""
    about_s: float = 0.0
    """that it would wait"""


class Left(Struct, frozen=True, kw_only=True):
    """An attempt is over, or its call waits no longer. Durations are the node's own; 0 where it says nothing."""

    id: str
    tokens: int = -1
    """that it came to; -1: nobody knows"""
    prompt_tokens: int = 0
    prompt_ms: float = 0.0
    output_tokens: int = 0
    output_ms: float = 0.0
    load_ms: float = 0.0
    good: bool = False


class Freed(Struct, frozen=True):
    """What an attempt held, and the breakers that its outcome may change."""

    now_ms: int
    backend: str
    model: str
    node: Breaker
    pair: Breaker


class News(Struct, frozen=True, kw_only=True):
    """What is new since a revision. `told` has what probes and breakers say, by name; b"": it is no more.

    `busy` counts slots by node, and by "<node> <model>". `loads` has, of each node that loads a model for a call, the
    model; `turns` are those this replica has to do.
    """

    now_ms: int
    version: int
    registry: Registry | None
    revision: int
    told: dict[str, bytes]
    busy: dict[str, int]
    loads: dict[str, str]
    depths: dict[str, int]
    rates: dict[tuple[str, str], Rates] | None
    turns: list[str]
