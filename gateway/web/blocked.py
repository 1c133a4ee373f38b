"""The parts of Ollama that this gateway keeps to itself, each with what to do instead. Data, and one handler."""

from typing import Any

from litestar import route
from litestar.enums import HttpMethod
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from gateway.errors import RouteBlocked

GET, HEAD, POST, DELETE = HttpMethod.GET, HttpMethod.HEAD, HttpMethod.POST, HttpMethod.DELETE
_OPERATOR = "The models behind this gateway are its operator's to change"
_ACCOUNT = "The nodes' account at ollama.com is not for clients of this gateway"


class Blocked(Struct, frozen=True):
    """A route of Ollama's that is refused to everybody. `words` are the error's."""

    methods: tuple[HttpMethod, ...]
    path: str
    words: str


BLOCKED: tuple[Blocked, ...] = (
    Blocked((POST,), "/api/pull", f"{_OPERATOR}: operators pull with POST /v1/models/pull and the admin secret."),
    Blocked((POST,), "/api/push", f"{_OPERATOR}: they cannot be pushed from here. Push from the node itself."),
    Blocked((POST,), "/api/create", f"{_OPERATOR}: create one on the node itself."),
    Blocked((POST,), "/api/copy", f"{_OPERATOR}: copy one on the node itself."),
    Blocked((DELETE,), "/api/delete", f"{_OPERATOR}: delete one on the node itself."),
    Blocked((POST, HEAD), "/api/blobs/{digest:str}", f"{_OPERATOR}: files cannot be uploaded here."),
    Blocked((POST,), "/api/me", f"{_ACCOUNT}. Sign in on the node itself."),
    Blocked((POST,), "/api/signout", f"{_ACCOUNT}. Sign out on the node itself."),
    Blocked((DELETE,), "/api/user/keys/{key:str}", f"{_ACCOUNT}. Manage its keys on the node itself."),
    Blocked(
        (GET, POST),
        "/api/experimental/{rest:path}",
        "This gateway has none of Ollama's experimental routes: a search of the web would cost the nodes' own account "
        "at ollama.com. Let the client search and send what it found.",
    ),
    Blocked((GET,), "/api/status", f"{_ACCOUNT}. GET /ready says how this gateway is."),
)


def _handler(blocked: Blocked) -> BaseRouteHandler:
    @route(blocked.path, http_method=blocked.methods, status_code=200, include_in_schema=False, sync_to_thread=False)
    def refuse() -> None:
        raise RouteBlocked(blocked.words)

    return refuse


def handlers() -> list[Any]:
    return [_handler(blocked) for blocked in BLOCKED]
