"""What the machine under a fake Ollama can do. The default is boundless and immediate, as most tests want it."""

from msgspec import Struct, structs

from gateway.dev.fake_faults import Behaviour

VERSION = "0.33.0"
PROMPT_TOKEN_NS = 5_000_000
TOKEN_NS = 10_000_000
LOADED_NS = 1_700_000
"""what an answer says of prompt, text and loading where nothing here says how long they take"""


class Hardware(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast and how big a node is; `reset` leaves it as it is. Times in milliseconds."""

    load_ms: float = 0
    """of one model; one load at a time. It belongs to the first who asked: it is given up when that client leaves"""
    memory_models: int | None = None
    """how many models are in memory at once; one more evicts the idle one that expires first, or waits for one"""
    parallel: int | None = None
    """OLLAMA_NUM_PARALLEL: generations of one model at once; the others wait in the node, without a word or a bound"""
    prompt_ms_per_token: float = 0
    """silence before the first byte for each token of the prompt that is not in the cache"""
    tokens_per_s: float | None = None
    """where the behaviour says nothing else"""
    prompt_cache: int | None = None
    """how many conversations of a loaded model need not be evaluated again; None: every prompt is evaluated whole"""
    slow: float = 1.0
    """every time is so many times as long"""
    leaks_slot: bool = False
    """Ollama's bug 17131, made certain: a client that leaves amid a stream leaves its model wedged"""
    wedge_heals_by_unload: bool = True
    version: str = VERSION

    def paced(self, behaviour: Behaviour) -> Behaviour:
        """The behaviour as fast as this machine is."""
        rate = behaviour.tokens_per_s or self.tokens_per_s
        if self.slow == 1 and rate == behaviour.tokens_per_s:
            return behaviour
        return structs.replace(
            behaviour,
            tokens_per_s=rate / self.slow if rate else None,
            first_byte_ms=behaviour.first_byte_ms * self.slow,
        )

    @property
    def load_s(self) -> float:
        return self.load_ms * self.slow / 1000

    def prompt_s(self, tokens: int) -> float:
        return tokens * self.prompt_ms_per_token * self.slow / 1000

    @property
    def prompt_token_ns(self) -> float:
        return self.prompt_ms_per_token * self.slow * 1_000_000 or PROMPT_TOKEN_NS
