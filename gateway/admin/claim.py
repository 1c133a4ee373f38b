"""Idempotency-Key: a request that is sent twice, or by two at once, is carried out once."""

import sql
from gateway.admin.author import Author
from gateway.admin.postgres import Connection
from gateway.errors import IdempotencyMismatch

REMEMBERED_HOURS = 24
"""Then `workers.upkeep` forgets it, and the key is as good as new."""


async def claim(connection: Connection, by: Author) -> str | None:
    """The id of what this request made when it was carried out before; None: it is ours to carry out.

    First in the transaction that carries it out. A second one at the same time waits for the first to end. Raises
    `IdempotencyMismatch`.
    """
    if not by.idempotency_key:
        return None
    statements = sql.queries()
    if await connection.fetchval(statements["claim_request"], by.idempotency_key, by.fingerprint) is not None:
        return None
    seen = await connection.fetchrow(statements["claimed_request"], by.idempotency_key)
    if seen is None or seen["fingerprint"] != by.fingerprint:  # None: forgotten at this very moment
        raise IdempotencyMismatch
    return str(seen["object"])


async def answer(connection: Connection, by: Author, made: str) -> None:
    """Remember the id of what the request has made."""
    if by.idempotency_key:
        await connection.execute(sql.queries()["answer_request"], by.idempotency_key, made)
