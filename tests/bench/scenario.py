"""The scenarios that are measured in rounds: what is asked, of whom, in which dialect."""

from msgspec import Struct
from msgspec.structs import replace

from tests.bench.recipe import read
from tests.bench.request import ANTHROPIC, EMBED, NATIVE, OPENAI, Dialect

DIRECT, NGINX, GATEWAY, LITELLM, REDIS = "direct", "nginx", "gateway", "litellm", "redis"
QUICK_MODEL = "s128"
"""the one that answers at once and does not stream"""


class Contestant(Struct, frozen=True):
    """A target asked in a dialect."""

    target: str
    dialect: Dialect

    @property
    def name(self) -> str:
        return f"{self.target} {self.dialect.name}"


PLAIN = (Contestant(DIRECT, NATIVE), Contestant(NGINX, NATIVE), Contestant(GATEWAY, OPENAI))
STREAMS = (
    Contestant(DIRECT, NATIVE), Contestant(NGINX, NATIVE), Contestant(GATEWAY, NATIVE), Contestant(GATEWAY, OPENAI),
)  # fmt: skip
PEER = Contestant(LITELLM, OPENAI)
MORE = Contestant(GATEWAY, ANTHROPIC)
"""takes part in full runs"""


class Scenario(Struct, frozen=True, kw_only=True):
    """`connections` clients that each ask again when they are answered."""

    name: str
    about: str
    model: str
    connections: int
    contestants: tuple[Contestant, ...]
    stream: bool = False
    timed: bool = False
    """whether the time of single chunks is looked at"""
    prompt_bytes: int = 1_024
    inputs: int = 0
    seconds: float = 1.0
    quick: bool = False
    """whether it is part of the quick run"""
    peer_connections: int = 0
    """with how many clients LiteLLM takes part; 0: it does not"""

    @property
    def stream_ms(self) -> float:
        """How long a stream takes."""
        recipe = read(self.model)
        return float(recipe.first_ms + recipe.chunks * recipe.gap_ms) if self.stream else 0.0

    def connections_of(self, contestant: Contestant) -> int:
        return self.peer_connections if contestant.target == LITELLM else self.connections


SCENARIOS = (
    Scenario(
        name="json_c1", about="JSON, 1 connection", model=QUICK_MODEL, connections=1, contestants=PLAIN, quick=True,
        peer_connections=1,
    ),
    Scenario(
        name="json_c32", about="JSON, 32 connections", model=QUICK_MODEL, connections=32, contestants=PLAIN, quick=True,
        peer_connections=32,
    ),
    Scenario(
        name="json_c32_t50", about="JSON, 32 connections, a node that takes 50 ms", model="s128t50", connections=32,
        contestants=PLAIN, seconds=2,
    ),
    Scenario(
        name="stream_burst", about="200 chunks at once, 32 connections", model="n200", connections=32, stream=True,
        contestants=STREAMS, quick=True, peer_connections=8,
    ),
    Scenario(
        name="stream_paced", about="200 chunks 10 ms apart, 64 streams", model="n200d10t50", connections=64,
        stream=True, timed=True, contestants=STREAMS, quick=True, seconds=2, peer_connections=4,
    ),
    Scenario(
        name="first_token", about="first token of 32 streams of 40 chunks 20 ms apart", model="n40d20t50",
        connections=32, stream=True, timed=True, contestants=STREAMS, seconds=2,
    ),
    Scenario(
        name="prompt_64k", about="JSON, prompts of 64 KB, 8 connections", model=QUICK_MODEL, connections=8,
        prompt_bytes=65_536, contestants=PLAIN,
    ),
    Scenario(
        name="embed_64", about="embeddings of 64 inputs, 8 connections", model="v64", connections=8, prompt_bytes=256,
        inputs=64, contestants=tuple(Contestant(target, EMBED) for target in (DIRECT, NGINX, GATEWAY)),
    ),
)  # fmt: skip
MODELS = sorted({one.model for one in SCENARIOS} - {QUICK_MODEL})


def chosen(names: list[str], *, full: bool, peers: list[str]) -> list[Scenario]:
    """Those named; else all, or those of the quick run."""
    found = [one for one in SCENARIOS if (one.name in names if names else full or one.quick)]
    return [_widened(one, full=full, peers=peers) for one in found]


def _widened(scenario: Scenario, *, full: bool, peers: list[str]) -> Scenario:
    """With those who take part only in full runs, or where they are asked for."""
    more = [MORE] if full and scenario.stream else []
    more += [PEER] if LITELLM in peers and scenario.peer_connections else []
    return replace(scenario, contestants=(*scenario.contestants, *more))
