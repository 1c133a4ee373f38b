"""What would become of a real request of a key: its limits, the backends in their order, its place. Nothing changes.

The request is read, and the backends are ranked, by the functions that do so for calls.
"""

from typing import Annotated, Any, Literal

import msgspec
from litestar import post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from gateway.core.call import Call
from gateway.core.keys import Credential
from gateway.core.placing import Foreseen, Full, Placed, Waiting
from gateway.core.routing import Backend, Candidate, Unfit
from gateway.errors import BadRequest, GatewayError, LineFull, NoBackend, Unavailable
from gateway.web import body, intent
from gateway.web.admin import dry_run, key_views
from gateway.web.admin.deps import AdminDeps, Requested, deps_of
from gateway.web.admin.dry_run import ADDRESS_CHARS_MAX, Verdict
from gateway.web.admin.key_fields import Name
from gateway.web.admin.key_views import KeyView
from gateway.web.calls import CallDeps
from gateway.web.intent import Meant, Origin
from gateway.web.surfaces import CALLS

ENDPOINT_CHARS_MAX = 64
DEFAULT_ENDPOINT = "/v1/chat/completions"


class Explain(Struct, kw_only=True, forbid_unknown_fields=True):
    """A request that a key might send: its whole body, as `endpoint` takes it. From `address`; left out: from one that
    may."""

    key_id: Name
    body: dict[str, Any]
    endpoint: Annotated[str, Meta(max_length=ENDPOINT_CHARS_MAX)] = DEFAULT_ENDPOINT
    address: Annotated[str, Meta(max_length=ADDRESS_CHARS_MAX)] | None = None


class CandidateView(Struct, kw_only=True):
    """A backend. `reason` says why it cannot take the call; null: it can. `rank` 1 is the best of those that can.

    `finish_ms` is when the answer is expected to be done there. `equal`: as good as the best, so that what it has in
    mind of the prompt may decide. `load_from`: how many calls have to wait for each backend that has the model, before
    it is loaded here too. `context_tokens` is the `num_ctx` that would be asked for; null: the backend's own.
    """

    name: str
    reason: Unfit | None
    rank: int | None
    state: Literal["loaded", "loading", "cold"] | None
    finish_ms: int | None
    busy: int
    slots: int
    weight: int
    equal: bool | None
    load_from: int | None
    context_tokens: int | None


class Would(Struct, kw_only=True):
    """What would happen. Either a slot at `place`, with `loads` once the model is loaded there; or the position in the
    line, 1 being the next to get a slot, where `depth` calls wait already; or the error with the code `refused`.
    """

    place: str | None = None
    loads: bool | None = None
    queue_position: int | None = None
    depth: int | None = None
    about_s: float | None = None
    refused: str | None = None


class Explained(Struct, kw_only=True):
    """What would become of the request. `alias` is the name for `model` that it uses, if it does.

    `prompt_tokens` are those expected of its prompt. `affinity` is the backend that served the beginning of its prompt
    last.
    """

    key: KeyView
    model: str
    alias: str | None
    prompt_tokens: int
    admission: Verdict
    backends: list[CandidateView]
    affinity: str | None
    would: Would


@post("/explain", status_code=200)
async def explain(request: Requested, data: JSONBody[Explain]) -> Explained:
    deps, calls = deps_of(request), _calls_of(request)
    source = dry_run.source_of(data.address)
    key = await deps.keys.get(data.key_id)
    (record,) = await deps.keys.records([key])
    (shown,) = await key_views.shown(deps, [key])
    call, wish = _understood(deps, calls, data)
    met = await deps.inspector.explain(key.id, call.model, call.estimate)
    error = dry_run.refusal_of(deps, key, call.model, source, met)
    foreseen = await deps.fleet.foresee(call, record.weight)
    return Explained(
        key=shown,
        model=call.model,
        alias=wish.alias.name if wish.alias else None,
        prompt_tokens=call.estimate.prompt_expected,
        admission=dry_run.verdict(error, met),
        backends=_backends(deps.fleet.snapshot(), foreseen),
        affinity=foreseen.affinity or None,
        would=Would(refused=error.code) if error else _would(foreseen),
    )


def _calls_of(request: Requested) -> CallDeps:
    deps: CallDeps = request.app.state.calls
    return deps


def _understood(deps: AdminDeps, calls: CallDeps, data: Explain) -> tuple[Call, Meant]:
    """The call that such a request would be. Raises `BadRequest`, whatever the route itself would say of it."""
    dialect = CALLS.get(data.endpoint)
    if dialect is None:
        raise BadRequest(f"Say one of these as `endpoint`: {', '.join(CALLS)}.", param="endpoint")
    origin = Origin(
        id=calls.new_id(),
        credential=Credential(data.key_id, ()),
        source="",
        endpoint=data.endpoint,
        began_ms=calls.clock_ms(),
    )
    try:
        asked = body.decoded(msgspec.json.encode(data.body), dialect.parse)
        wish = intent.meant(deps.fleet, intent.spelling(deps.fleet, dialect, asked))
        return intent.call(calls.policy, origin, asked, wish), wish
    except Unavailable:
        raise
    except GatewayError as error:
        words = f"{data.endpoint} would refuse this body ({error.code}): {error.message}"
        raise BadRequest(words, param="body") from None


def _backends(snapshot: list[Backend], foreseen: Foreseen) -> list[CandidateView]:
    """In the order in which they would be tried; those that cannot take the call last."""
    ranks = {one.backend: (rank, one) for rank, one in enumerate(foreseen.ranked, 1)}
    views = [_view(one, ranks.get(one.name), foreseen.unfit.get(one.name)) for one in snapshot]
    return sorted(views, key=lambda view: (view.rank is None, view.rank or 0, view.name))


def _view(backend: Backend, ranked: tuple[int, Candidate] | None, reason: Unfit | None) -> CandidateView:
    rank, candidate = ranked or (None, None)
    return CandidateView(
        name=backend.name,
        reason=reason,
        rank=rank,
        state=candidate.state if candidate else None,
        finish_ms=candidate.finish_ms if candidate else None,
        busy=backend.busy,
        slots=backend.slots,
        weight=backend.weight,
        equal=candidate.equal if candidate else None,
        load_from=candidate.load_from if candidate else None,
        context_tokens=(candidate.context_tokens or None) if candidate else None,
    )


def _would(foreseen: Foreseen) -> Would:
    match foreseen.verdict:
        case Placed(backend=backend, loads=loads):
            return Would(place=backend, loads=loads)
        case Waiting(position=position, depth=depth):
            return Would(queue_position=position, depth=depth, about_s=round(foreseen.about_s, 1))
        case Full(depth=depth):
            return Would(refused=LineFull.code, depth=depth)
    return Would(refused=NoBackend.code)
