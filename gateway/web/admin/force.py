"""Changes come into force when Redis has them; a change that is saved must never look refused."""

from collections.abc import Awaitable

from gateway.errors import NotInForceYet, Unavailable

SOON = "It starts to work when the gateway's Redis is back."


async def put(publishing: Awaitable[None]) -> None:
    """Publish what is saved. Raises `NotInForceYet`: the worker publishes it later."""
    if not await is_put(publishing):
        raise NotInForceYet


async def is_put(publishing: Awaitable[None]) -> bool:
    """The same, for what must be told whether or not it is in force."""
    try:
        await publishing
    except Unavailable:
        return False
    return True
