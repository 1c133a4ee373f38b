"""Which backend a call should go to: a pure order over a snapshot, decided apart from being acted on.

`rank` puts the backends that can answer in order; the function `place` (state/lua/fleet) takes the first one with room.
POST /admin/explain shows the same order, with the same reasons.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.fleet import WEIGHT
from gateway.errors import CloudBlocked, GatewayError, ModelNotFound, NoBackend

OBJECTIONS: dict[str, type[GatewayError]] = {
    "no_backend": NoBackend,
    "model_not_found": ModelNotFound,
    "cloud": CloudBlocked,
}
"""what each objection to a model is told as"""

Unfit = Literal["", "model_missing", "down", "refused", "ejected", "draining", "context"]
"""why a backend cannot take a call: it lacks the model, does not answer, is too old to be used, has failed too often,
is being emptied, or the model has no such context; "": it can"""
WHOLE_NODE = "*"
"""among the ejected models of a backend: all of them"""
EQUAL = 1.5
"""finishes that differ by less than this factor, or by EQUAL_MS, are as good as the same"""
EQUAL_MS = 100.0
LOAD_BYTES_A_MS = 500_000
"""guess at how fast a model is loaded where nobody has seen it"""
LOAD_MS_MIN = 1_000.0
OUTPUT_TOKENS_EXPECTED = 256
"""of an answer that may have more"""
CANDIDATES_MAX = 32
"""of one call; a fleet may have more nodes than are worth looking at"""


class Details(Struct, frozen=True):
    """What kind of model it is, in Ollama's words. "" and 0: the backend does not say."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int = 0
    embedding_length: int = 0


class Model(Struct, frozen=True):
    """A model as one backend has it: its own spelling, unix seconds of its last change, what it can do.

    `capabilities` is empty where the backend does not say. `digest` names its whole content, settings included.
    """

    spelling: str
    modified_s: int = 0
    capabilities: frozenset[str] = frozenset()
    modified_at: str = ""
    size_bytes: int = 0
    digest: str = ""
    details: Details = Details()
    shown: bool = False
    """whether what it can do comes from /api/show, which is right where a list of models is not"""

    @property
    def completes(self) -> bool:
        """Whether it makes text."""
        return not self.capabilities or "completion" in self.capabilities

    @property
    def thinks(self) -> bool:
        return "thinking" in self.capabilities


class Loaded(Struct, frozen=True):
    """A model in a backend's memory. `expires_s` is `expires_at` in unix seconds."""

    expires_at: str = ""
    expires_s: float = 0.0
    size_bytes: int = 0
    vram_bytes: int = 0
    context_tokens: int = 0


class Rates(Struct, frozen=True, kw_only=True):
    """How fast one backend is with one model, learned from its own durations; milliseconds. 0: nobody knows."""

    load_ms: float = 0.0
    prompt_token_ms: float = 0.0
    """of prompts whose beginning it had not seen"""
    cached_token_ms: float = 0.0
    """of prompts whose beginning it had served before"""
    output_token_ms: float = 0.0
    call_ms: float = 0.0
    """from the slot that a call took until it gave it back"""
    calls: int = 0
    cached_calls: int = 0


UNKNOWN = Rates(prompt_token_ms=1.0, output_token_ms=20.0, call_ms=5_000.0)
"""what a backend is taken for before it has answered anything"""


class Backend(Struct, frozen=True, kw_only=True):
    """One backend as it was last seen. `models` and `loaded` go by canonical name; `version` is Ollama's.

    `remote` are names of models that it would only pass on to another site, which is not wanted.
    """

    name: str
    url: str
    healthy: bool
    models: dict[str, Model]
    loaded: dict[str, Loaded] = {}
    remote: frozenset[str] = frozenset()
    version: str = ""
    asked: bool = True
    """whether it has been probed at all"""
    refused: bool = False
    """its version is older than what the operator allows"""
    slots: int = 1
    weight: int = WEIGHT
    draining: bool = False
    busy: int = 0
    """slots that calls of all replicas have taken"""
    loading: str = ""
    """the model that is being loaded there for one of our calls"""
    ejected: frozenset[str] = frozenset()
    """models whose calls have failed too often, or WHOLE_NODE"""
    rates: dict[str, Rates] = {}


class Wanted(Struct, frozen=True, kw_only=True):
    """What a call needs of a backend. `context_tokens` 0: it does not say."""

    model: str
    context_tokens: int = 0
    prompt_tokens: int = 0
    output_tokens: int = OUTPUT_TOKENS_EXPECTED
    salt: str = ""
    """where there are more equals than are looked at, different calls look at different ones"""


class Candidate(Struct, frozen=True, kw_only=True):
    """A backend that can take the call, and what is expected of it there."""

    backend: str
    slots: int
    state: Literal["loaded", "loading", "cold"]
    """cold: it has to load the model first, or load it again with more context"""
    context_tokens: int
    """the num_ctx the call is sent with, so that it reloads nothing; 0: none is sent"""
    finish_ms: int
    busy: int
    equal: bool
    """whether it is as good as the best, so that a prompt's beginning that it has in mind may decide"""
    load_from: int
    """how many calls have to wait for each backend that has the model, before loading it here too ends their wait
    sooner"""


def unfit(backend: Backend, wanted: Wanted) -> Unfit:
    """Why the backend cannot take such a call now."""
    model = backend.models.get(wanted.model)
    if model is None:
        return "model_missing"
    if not backend.healthy:
        return "down"
    if backend.refused:
        return "refused"
    if backend.draining:
        return "draining"
    if backend.ejected and not backend.ejected.isdisjoint((wanted.model, WHOLE_NODE)):
        return "ejected"
    most = model.details.context_length
    return "context" if most and wanted.context_tokens > most else ""


def rank(backends: Iterable[Backend], wanted: Wanted) -> list[Candidate]:
    """The backends that can take the call, best first; same input, same order.

    Loaded with enough context before loading before cold, as a load costs more than a short wait; then those with a
    free slot; then by when they would have finished, by the share of their slots that is taken, and by weight.
    """
    backends = list(backends)
    wanted = within(backends, wanted)
    able = [backend for backend in backends if not unfit(backend, wanted)]
    strange = any(wanted.model not in backend.rates for backend in able)
    typical = _typical(able, wanted.model) if strange else UNKNOWN
    found = [_candidate(backend, wanted, backend.rates.get(wanted.model, typical)) for backend in able]
    if len(found) > CANDIDATES_MAX:
        found = [((*key[:-1], str(crc32((wanted.salt + key[-1]).encode()))), one) for key, one in found]
    found.sort(key=lambda one: one[0])
    best = found[0][1] if found else None
    return [_placed(one, best) for _, one in found[:CANDIDATES_MAX]]


def within(backends: Iterable[Backend], wanted: Wanted) -> Wanted:
    """What is wanted, with no more context than the model has anywhere: a node would cut it to that itself."""
    if not wanted.context_tokens:
        return wanted
    copies = [backend.models[wanted.model] for backend in backends if wanted.model in backend.models]
    most = max((copy.details.context_length for copy in copies), default=0)
    bounded = all(copy.details.context_length for copy in copies)
    return replace(wanted, context_tokens=min(wanted.context_tokens, most)) if bounded else wanted


def has_context(loaded: Loaded, tokens: int) -> bool:
    """Whether it was loaded with so much context, as far as the node says."""
    return not loaded.context_tokens or loaded.context_tokens >= tokens


_ORDER = {"loaded": 0, "loading": 1, "cold": 2}
_Key = tuple[int, bool, int, float, str]


def _candidate(backend: Backend, wanted: Wanted, rates: Rates) -> tuple[_Key, Candidate]:
    loaded = backend.loaded.get(wanted.model)
    enough = loaded is not None and has_context(loaded, wanted.context_tokens)
    state: Literal["loaded", "loading", "cold"] = "loaded" if enough else "cold"
    if backend.loading == wanted.model and not enough:
        state = "loading"
    own_ms = wanted.prompt_tokens * rates.prompt_token_ms + wanted.output_tokens * rates.output_token_ms
    load_ms = 0.0
    if state != "loaded":
        load_ms = rates.load_ms or max(LOAD_MS_MIN, backend.models[wanted.model].size_bytes / LOAD_BYTES_A_MS)
    full = backend.busy >= backend.slots
    queue_ms = (backend.busy - backend.slots + 1) * (rates.call_ms or own_ms) / max(1, backend.slots) if full else 0.0
    finish_ms = load_ms + queue_ms + own_ms
    share = (backend.busy + 1) / (max(1, backend.slots) * max(1, backend.weight))
    key = (_ORDER[state], full, int(2 * math.log2(finish_ms + EQUAL_MS)), share, backend.name)
    context = (loaded.context_tokens if loaded is not None and enough else 0) or wanted.context_tokens
    load_from = math.ceil(load_ms * backend.slots / max(1.0, rates.call_ms or own_ms))
    candidate = Candidate(
        backend=backend.name,
        slots=backend.slots,
        state=state,
        context_tokens=context,
        finish_ms=int(finish_ms),
        busy=backend.busy,
        equal=True,
        load_from=load_from,
    )
    return key, candidate


def _placed(one: Candidate, best: Candidate | None) -> Candidate:
    if best is None or (one.state == best.state and one.finish_ms <= best.finish_ms * EQUAL + EQUAL_MS):
        return one
    return aloof(one)


def aloof(one: Candidate) -> Candidate:
    """The candidate, but what it has in mind of a prompt does not make it preferred."""
    return replace(one, equal=False)


def typical_call_ms(backends: Sequence[Backend], model: str) -> float:
    """How long a call to the model holds its slot."""
    return _typical(backends, model).call_ms or UNKNOWN.call_ms


def _typical(backends: Sequence[Backend], model: str) -> Rates:
    """What a backend that never served the model is taken for: the mean of those that have."""
    known = [rates for backend in backends if (rates := backend.rates.get(model)) and rates.calls]
    if not known:
        return UNKNOWN
    count = len(known)
    return Rates(
        load_ms=sum(rates.load_ms for rates in known) / count,
        prompt_token_ms=sum(rates.prompt_token_ms for rates in known) / count,
        output_token_ms=sum(rates.output_token_ms for rates in known) / count,
        call_ms=sum(rates.call_ms for rates in known) / count,
    )


def objection(backends: Sequence[Backend], model: str) -> str:
    """Why nothing can serve `model` now: "", "no_backend" while none that may have it answers, "cloud" where it is only
    passed on, "model_not_found"."""
    able = [backend for backend in backends if model in backend.models]
    wanted = Wanted(model=model)
    if any(not unfit(backend, wanted) for backend in able):
        return ""
    if not able and any(model in backend.remote for backend in backends):
        return "cloud"
    if able or not any(backend.healthy for backend in backends):
        return "no_backend"
    return "model_not_found"


def default_model(backends: Iterable[Backend]) -> str | None:
    """The first model, by name, that any healthy backend can make text with."""
    names = (name for b in backends if b.healthy for name, model in b.models.items() if model.completes)
    return min(names, default=None)
