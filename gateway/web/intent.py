"""What a request comes to as a call: the model it means, what it asks of that, how much it may take.

Calls, the counting of tokens and POST /admin/explain all read requests with these.
"""

from collections.abc import Sequence

from msgspec import Struct

from gateway.core import aliases, limits, names
from gateway.core.call import Call, PromptSize
from gateway.core.fleet import Alias
from gateway.core.keys import Credential
from gateway.core.limits import Estimate
from gateway.core.trace import Trace
from gateway.dialects.asked import Asked, Dialect
from gateway.dialects.policy import Policy
from gateway.errors import ModelMissing, ModelNotFound, NoBackend
from gateway.ports import Fleet

END_USER_CHARS_MAX = 256


class Origin(Struct, frozen=True, kw_only=True):
    """Whose request it is, and where it came in. `began_ms` is monotonic."""

    id: str
    credential: Credential
    source: str
    address_hash: str = ""
    endpoint: str
    dialect: str = ""
    began_ms: int
    wait_ms_max: int | None = None
    body_ms: int = 0
    trace: Trace | None = None


class Meant(Struct, frozen=True):
    """A model by its canonical name, and the operator's name for it, if that is what was said."""

    model: str
    alias: Alias | None = None


def spelling(fleet: Fleet, dialect: Dialect, asked: Asked) -> str:
    """The model as the request names it, or the default one where it may name none.

    Raises `ModelMissing`, or `NoBackend` while nobody knows what there is.
    """
    if asked.model:
        return asked.model
    if not dialect.has_default_model:
        raise ModelMissing(param="model")
    name = fleet.default_model()
    if not name:
        raise ModelMissing if fleet.models() else NoBackend
    return name


def meant(fleet: Fleet, spelling: str) -> Meant:
    """What a client means by a name. Raises `ModelNotFound` for what can be none."""
    name = names.canonical(spelling)
    if name is None:
        raise ModelNotFound
    alias = fleet.alias(name)
    return Meant(aliases.target(alias, fleet.objection), alias) if alias else Meant(name)


def call(policy: Policy, origin: Origin, asked: Asked, wish: Meant) -> Call:
    """The call that the request is, within the operator's bounds. Raises `BadRequest`."""
    upstreams = (asked.upstream, *asked.further)
    sizes = [one.size() for one in upstreams]
    first, *further = (policy.apply(one, size, wish.alias) for one, size in zip(upstreams, sizes, strict=True))
    return Call(
        id=origin.id,
        credential=origin.credential,
        source=origin.source,
        address_hash=origin.address_hash,
        endpoint=origin.endpoint,
        dialect=origin.dialect,
        model=wish.model,
        streamed=asked.streamed,
        by_line=asked.streamed or asked.collected,
        upstream=first,
        further=tuple(further),
        estimate=_estimate(sizes, _output_tokens(asked, wish.alias), policy.output_tokens_max),
        began_ms=origin.began_ms,
        end_user=asked.end_user.replace("\0", "")[:END_USER_CHARS_MAX],
        wait_ms_max=origin.wait_ms_max,
        body_ms=origin.body_ms,
        trace=origin.trace,
    )


def _output_tokens(asked: Asked, alias: Alias | None) -> int | None:
    """What is wanted of each answer. Embeddings have none, whatever an alias says; less than 1 is Ollama's no bound."""
    said = alias.options.get("num_predict") if alias else None
    if said is None or asked.output_tokens_max == 0:
        return asked.output_tokens_max
    return int(said) if said > 0 else None


def _estimate(sizes: Sequence[PromptSize], wanted: int | None, output_tokens_max: int) -> Estimate:
    """`wanted` and its bound are for the answer to each prompt."""
    each = output_tokens_max if wanted is None else min(wanted, output_tokens_max)
    return limits.estimate(
        prompt_bytes=sum(size.text_bytes for size in sizes),
        messages=sum(size.messages for size in sizes),
        images=sum(size.images for size in sizes),
        output_max=each * len(sizes),
    )
