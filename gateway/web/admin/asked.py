"""Bodies of the admin API, read as those of calls are: strictly, and what is wrong is said by its field."""

from functools import partial

import msgspec

from gateway.errors import InvalidJson
from gateway.web.admin.deps import Requested
from gateway.web.body import decoded

EMPTY = "The body is empty: send a JSON object, which may be {} where nothing has to be said."


async def well_formed(request: Requested) -> None:
    """Before the framework reads the body. Raises `InvalidJson`, and `BadRequest` that names the field."""
    data = request.route_handler.parsed_fn_signature.parameters.get("data")
    if data is None:
        return
    body = await request.body()
    if not body.strip():
        raise InvalidJson(EMPTY)
    decoded(body, partial(msgspec.json.decode, type=data.annotation))
