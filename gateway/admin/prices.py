"""The truth about prices: rows of `prices`, each for a model from a time on. What was valid once is never changed."""

from asyncpg import Record
from msgspec import Struct

import sql
from gateway.admin import audit, cursor, moment
from gateway.admin.author import Author, Made, Page
from gateway.admin.claim import answer, claim
from gateway.admin.postgres import Connection, Postgres
from gateway.core.pricing import Price, PriceList
from gateway.errors import BadRequest, Conflict, PriceNotFound

PRICES_MAX = 1_000
"""of all models: what replicas are told of what was valid last, is now, or will be"""
PAST_S_MAX = 60
"""`valid_from` may lie so far back and still mean now: clocks differ"""


class NewPrice(Struct, frozen=True, kw_only=True):
    """A `Price` that is to be; `valid_from_ms` None: from now on."""

    model: str
    valid_from_ms: int | None = None
    per_request_micro: int = 0
    per_1k_prompt_micro: int = 0
    per_1k_completion_micro: int = 0


class PriceStore:
    """Every method raises `StoreUnavailable`; values no row can hold: `BadRequest`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add(self, by: Author, price: NewPrice) -> Made[Price]:
        """What has been charged stays as it is.

        Raises `BadRequest` for a time that is past, `Conflict` when the model has a price from that very time on.
        """
        async with self._postgres.change("price") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(_price(await _read(connection, int(again))), True)
            await _check_time(connection, price.valid_from_ms)
            found = await connection.fetchrow(
                sql.queries()["add_price"],
                price.model,
                moment.maybe_at_ms(price.valid_from_ms),
                price.per_request_micro,
                price.per_1k_prompt_micro,
                price.per_1k_completion_micro,
            )
            if found is None:
                raise Conflict("That model has a price from that time on: remove it first, or choose another time.")
            if len(await connection.fetch(sql.queries()["price_list"], PRICES_MAX + 1)) > PRICES_MAX:
                raise Conflict(
                    f"This gateway keeps no more than {PRICES_MAX} prices: remove some that are not valid yet."
                )
            made = _price(found)
            await audit.write(connection, by, "create", _object(made.id), None, audit.shown_price(made))
            await answer(connection, by, str(made.id))
            return Made(made, False)

    async def page(self, model: str | None, after: str | None, limit: int) -> Page[Price]:
        """Of one model or all, the latest first, those that are past too. Raises `BadRequest` for a false cursor."""
        limit = cursor.rows(limit)
        us, last = cursor.read(after, (moment.US_MAX, str(cursor.NUMBER_MAX)))
        if not last.isdigit() or int(last) > cursor.NUMBER_MAX:
            raise cursor.false()
        found = await self._postgres.find("prices_before", moment.at_us(us), int(last), limit + 1, model)
        return cursor.page(found, limit, _price, lambda one: (moment.us(one["valid_from"]), str(one["id"])))

    async def remove(self, by: Author, price_id: int) -> None:
        """Raises `PriceNotFound`, and `Conflict` for a price that is valid already."""
        async with self._postgres.change("price") as connection:
            removed = await connection.fetchrow(sql.queries()["remove_price"], price_id) if _known(price_id) else None
            if removed is None:
                await _read(connection, price_id)
                raise Conflict("This price is valid already: add another one for that model instead.")
            gone = _price(removed)
            await audit.write(connection, by, "remove", _object(gone.id), audit.shown_price(gone), None)

    async def price_list(self) -> PriceList:
        """Of each model the price before the present one, that one, and all to come. One snapshot."""
        found = await self._postgres.find("price_list", PRICES_MAX)
        return PriceList(found[0]["version"], tuple(_price(one) for one in found if one["id"] is not None))


def _object(price_id: int) -> str:
    return f"price:{price_id}"


def _known(price_id: int) -> bool:
    return 0 < price_id <= cursor.NUMBER_MAX


async def _read(connection: Connection, price_id: int) -> Record:
    found = await connection.fetchrow(sql.queries()["get_price"], price_id) if _known(price_id) else None
    if found is None:
        raise PriceNotFound
    return found


async def _check_time(connection: Connection, valid_from_ms: int | None) -> None:
    now_ms = moment.ms(await connection.fetchval(sql.queries()["clock"]))
    if valid_from_ms is not None and valid_from_ms < now_ms - PAST_S_MAX * 1000:
        raise BadRequest("A price cannot be valid from a time that is past.", param="valid_from")


def _price(row: Record) -> Price:
    return Price(
        id=row["id"],
        model=row["model"],
        valid_from_ms=moment.ms(row["valid_from"]),
        per_request_micro=row["per_request_micro"],
        per_1k_prompt_micro=row["per_1k_prompt_micro"],
        per_1k_completion_micro=row["per_1k_completion_micro"],
    )
