"""What lists and removals have in common: the queries they take, and a word on what is gone."""

from typing import Annotated, Literal

from litestar.params import QueryParameter
from msgspec import Struct

from gateway.admin.cursor import PAGE_ROWS
from gateway.errors import BadRequest
from gateway.web.admin.deps import Requested

PAGE_MAX = PAGE_ROWS
PAGE = 100
PARAM_CHARS_MAX = 64
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)]
"""the longest page that is wanted"""
_NO_QUERY = frozenset({"self", "request", "data"})


class Removed(Struct):
    """What is no longer there."""

    id: str
    removed: Literal[True] = True


async def known_only(request: Requested) -> None:
    """Raises `BadRequest` for a name that the route does not know, for it was meant to change the answer."""
    taken = request.route_handler.parsed_fn_signature.parameters
    known = {getattr(one.kwarg_definition, "name", None) or name for name, one in taken.items()}
    known -= _NO_QUERY | set(request.path_params)
    for name in request.query_params:
        if name not in known:
            raise BadRequest("This route takes no such query parameter.", param=name[:PARAM_CHARS_MAX])
        if len(request.query_params.getall(name)) > 1:
            raise BadRequest("This query parameter is there twice.", param=name)
