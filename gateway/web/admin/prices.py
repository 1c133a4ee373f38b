"""The routes of prices."""

from datetime import datetime
from typing import Annotated

from litestar import Controller, delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from gateway.admin.prices import NewPrice
from gateway.core import names, pricing
from gateway.core.pricing import Price
from gateway.errors import BadRequest
from gateway.web.admin import amounts, force
from gateway.web.admin.amounts import Part
from gateway.web.admin.author import author_of
from gateway.web.admin.deps import Requested, deps_of
from gateway.web.admin.key_fields import Time
from gateway.web.admin.key_views import at
from gateway.web.admin.query import PAGE, Limit, Removed


class CreatePrice(Struct, kw_only=True, forbid_unknown_fields=True):
    """What calls to a model cost, in credits, from a time on: now, unless given.

    `model` is `*` for all that have no price of their own. A part left out is nothing; one at least has to be there.
    """

    model: Annotated[str, Meta(min_length=1, max_length=names.SPELLING_CHARS_MAX)]
    valid_from: Time | None = None
    per_request: Part | None = None
    per_1k_prompt_tokens: Part | None = None
    per_1k_completion_tokens: Part | None = None


class PriceView(Struct, kw_only=True):
    """The price of calls to a model from a time on, in credits, before a tier's multiplier."""

    id: int
    model: str
    valid_from: datetime
    per_request: float
    per_1k_prompt_tokens: float
    per_1k_completion_tokens: float


class PriceList(Struct, kw_only=True):
    """A page of prices, the latest first."""

    data: list[PriceView]
    next: str | None


class PriceController(Controller):
    path = "/prices"

    @post("/")
    async def create(self, request: Requested, data: JSONBody[CreatePrice]) -> PriceView:
        deps, by = deps_of(request), await author_of(request)
        made = await deps.prices.add(by, _price(data))
        await force.put(deps.publisher.prices())
        return _view(made.what)

    @get("/")
    async def listed(
        self,
        request: Requested,
        model: FromQuery[str | None] = None,
        after: FromQuery[str | None] = None,
        limit: Limit = PAGE,
    ) -> PriceList:
        wanted = None if model is None else _model(model)
        page = await deps_of(request).prices.page(wanted, after, limit)
        return PriceList(data=[_view(price) for price in page.items], next=page.after)

    @delete("/{price_id:int}", status_code=200)
    async def remove(self, request: Requested, price_id: FromPath[int]) -> Removed:
        deps, by = deps_of(request), await author_of(request)
        await deps.prices.remove(by, price_id)
        await force.put(deps.publisher.prices())
        return Removed(str(price_id))


def _price(data: CreatePrice) -> NewPrice:
    """Raises `BadRequest`: also for a price without parts, which nobody means."""
    parts = (data.per_request, data.per_1k_prompt_tokens, data.per_1k_completion_tokens)
    if all(part is None for part in parts):
        raise BadRequest("A price needs one part at least; 0 says that it costs nothing.", param="per_request")
    return NewPrice(
        model=_model(data.model),
        valid_from_ms=None if data.valid_from is None else int(data.valid_from.timestamp() * 1000),
        per_request_micro=amounts.micro(data.per_request or 0, "per_request"),
        per_1k_prompt_micro=amounts.micro(data.per_1k_prompt_tokens or 0, "per_1k_prompt_tokens"),
        per_1k_completion_micro=amounts.micro(data.per_1k_completion_tokens or 0, "per_1k_completion_tokens"),
    )


def _model(text: str) -> str:
    model = pricing.ANY if text.strip() == pricing.ANY else names.canonical(text)
    if model is None:
        raise BadRequest("Write a model as llama3.2:3b, or * for all that have no price of their own.", param="model")
    return model


def _view(price: Price) -> PriceView:
    return PriceView(
        id=price.id,
        model=price.model,
        valid_from=at(price.valid_from_ms),
        per_request=pricing.credits(price.per_request_micro),
        per_1k_prompt_tokens=pricing.credits(price.per_1k_prompt_micro),
        per_1k_completion_tokens=pricing.credits(price.per_1k_completion_micro),
    )
