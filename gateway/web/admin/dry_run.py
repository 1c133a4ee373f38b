"""What a call of a key would meet, limit by limit. Nothing is asked of a backend and nothing is counted."""

from collections.abc import Sequence
from typing import Annotated

from litestar import post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from gateway.core import addresses, limits, names, pricing
from gateway.core.call import Explanation, Levels, Limited
from gateway.core.limits import Estimate
from gateway.core.record import ApiKey
from gateway.core.routing import OBJECTIONS
from gateway.errors import AddressNotAllowed, BadRequest, GatewayError, ModelNotFound, ScopeMissing, Unauthorized
from gateway.state.limiter import INFERENCE, refusal
from gateway.web import intent
from gateway.web.admin.deps import AdminDeps, Requested, deps_of
from gateway.web.admin.key_fields import Name
from gateway.web.admin.key_views import is_over

TOKENS_MAX = 10**7
ADDRESS_CHARS_MAX = 64
CREDITS = "credits"
NO_LIMITS = ("model", "not_ready", "backlog")
"""reasons that limits in shadow do not let pass"""

Tokens = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]


class DryRun(Struct, kw_only=True, forbid_unknown_fields=True):
    """A call that might be: one message of so many bytes of text, or of so many tokens (at three bytes each, for the
    gateway knows a prompt's bytes alone before a model has read it). From `address`; left out: from one that may.
    """

    key_id: Name
    model: Annotated[str, Meta(min_length=1, max_length=names.SPELLING_CHARS_MAX)]
    prompt_tokens: Tokens | None = None
    prompt_bytes: Tokens | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None
    address: Annotated[str, Meta(max_length=ADDRESS_CHARS_MAX)] | None = None


class LimitSeen(Struct, kw_only=True):
    """A limit that the call would meet; `limit` names of which models it is, where not of all. Credits are in credits.

    `before` is what is left now, `after` what would be; less than 0 means that it does not fit.
    """

    whose: str
    limit: str
    of: float
    before: float
    needs: float
    after: float
    wait_seconds: float


class Verdict(Struct, kw_only=True):
    """Whether the call would come in; else the error's code and message. `price` is the most that it could cost."""

    would_admit: bool
    reason: str | None
    message: str | None
    retry_after: int | None
    max_tokens: int
    price: float
    limits: list[LimitSeen]


@post("/limits/dry-run", status_code=200)
async def dry_run(request: Requested, data: JSONBody[DryRun]) -> Verdict:
    deps = deps_of(request)
    model = names.canonical(data.model)
    if model is None:
        raise BadRequest("This is no name of a model.", param="model")
    source = source_of(data.address)
    model = intent.meant(deps.fleet, model).model
    key = await deps.keys.get(data.key_id)
    found = await deps.inspector.explain(key.id, model, _estimate(data, deps.output_tokens_max))
    return verdict(refusal_of(deps, key, model, source, found), found)


def source_of(address: str | None) -> str | None:
    """The address as the gateway compares it. Raises `BadRequest`."""
    source = None if address is None else addresses.digits(address)
    if address is not None and source is None:
        raise BadRequest("This is no address. Write one as 192.0.2.1 or 2001:db8::1.", param="address")
    return source


def verdict(error: GatewayError | None, found: Explanation) -> Verdict:
    return Verdict(
        would_admit=error is None,
        reason=error.code if error else None,
        message=error.message if error else None,
        retry_after=error.retry_after_s if error else None,
        max_tokens=found.output_tokens_max,
        price=pricing.credits(found.price_micro),
        limits=[_seen(one) for one in found.limits],
    )


def _estimate(data: DryRun, output_tokens_max: int) -> Estimate:
    """Of such a call. Raises `BadRequest`."""
    wanted = min(data.max_tokens or output_tokens_max, output_tokens_max)
    if (data.prompt_tokens is None) == (data.prompt_bytes is None):
        raise BadRequest("Send `prompt_tokens` or `prompt_bytes`, and not both.", param="prompt_tokens")
    size = data.prompt_bytes if data.prompt_tokens is None else data.prompt_tokens * limits.BYTES_PER_TOKEN_EXPECTED
    return limits.estimate(prompt_bytes=size or 0, messages=1, images=0, output_max=wanted)


def refusal_of(deps: AdminDeps, key: ApiKey, model: str, source: str | None, found: Explanation) -> GatewayError | None:
    """What the call would be told, in the order in which admission looks."""
    if not key.enabled or is_over(key.expires_at_ms, deps.now_ms()):
        return Unauthorized()
    if source is not None and not _is_within(source, key.networks):
        return AddressNotAllowed()
    if INFERENCE not in key.scopes:
        return ScopeMissing()
    if found.reason == "model":
        return ModelNotFound()
    if objection := deps.fleet.objection(model):
        return OBJECTIONS[objection]()
    if not found.reason or (deps.shadow and found.reason not in NO_LIMITS):
        return None
    return refusal(found.reason, found.whose, -1 if found.wait_ms is None else found.wait_ms, Levels())


def _is_within(source: str, networks: Sequence[str]) -> bool:
    bounds = [addresses.bounds(one) for one in networks]
    return not bounds or any(first <= source <= last for first, last in bounds)


def _seen(one: Limited) -> LimitSeen:
    def shown(number: int) -> float:
        return pricing.credits(number) if one.what == CREDITS else number

    return LimitSeen(
        whose=one.whose,
        limit=one.what,
        of=shown(one.limit),
        before=shown(one.left),
        needs=shown(one.needed),
        after=shown(one.left_after),
        wait_seconds=max(0, one.wait_ms) / 1000,
    )
