"""The Litestar application around the routes: what it is given, how it refuses, who may call it from a browser."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Litestar, Response
from litestar.config.cors import CORSConfig

from gateway.telemetry.logs import Log
from gateway.web import routes
from gateway.web.admin.guard import is_elsewhere
from gateway.web.admin.router import PATH as ADMIN
from gateway.web.calls import CallEndpoint
from gateway.web.headers import EXPOSED
from gateway.web.rendering import exception_handlers

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]
NOWHERE = "/nowhere"
"""no route has this path"""
PRIVATE = ([ADMIN.strip("/")], ["metrics"])
"""how the paths begin that only operators ask for"""
ON_BOTH = (
    *((method, [path]) for method in ("GET", "HEAD") for path in ("health", "ready")),
    ("POST", ["v1", "models", "pull"]),  # operators pull too, with the admin secret
)
"""method and path of what is there beside it on the operators' port"""


class Gateway(Litestar):
    """The routes. Where operators have a port of their own, each port knows nothing of the other's routes, not even
    their methods.

    Calls go straight to their endpoints, past Litestar's router and middleware, which would cost as much as half of all
    else that is done with them; but for browsers, whose rules a middleware knows.
    """

    def __init__(self, *args: Any, admin_port: int, calls: Mapping[str, CallEndpoint], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._admin_port = admin_port
        self._calls = {} if self.cors_config else calls

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if self._admin_port and not _is_here(scope, self._admin_port):
                scope = {**scope, "path": NOWHERE}
            if endpoint := self._calls.get(scope["path"]):
                await endpoint.answer(self.state.calls, scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def application(
    lifespan: Lifespan,
    log: Log,
    new_id: Callable[[], str],
    *,
    body_bytes_max: int,
    cors_origins: tuple[str, ...],
    admin_port: int,
) -> Litestar:
    """The app. `lifespan` puts `calls`, `public`, `pull` and `admin` (the deps of each group of routes) into its state.

    `new_id` makes the ids of requests that never become calls.
    """
    endpoints = routes.endpoints()
    return Gateway(
        routes.handlers(endpoints),
        lifespan=[lifespan],
        exception_handlers=exception_handlers(log, new_id),
        after_request=_numbered(new_id),
        openapi_config=None,
        request_max_body_size=body_bytes_max,
        cors_config=_cors(cors_origins),
        logging_config=None,
        admin_port=admin_port,
        calls=endpoints,
    )


def _is_here(scope: Any, admin_port: int) -> bool:
    """Whether the port that a request came to has its route."""
    path = [part for part in scope["path"].split("/") if part]  # as Litestar reads paths: empty parts count for nothing
    private = path[:1] in PRIVATE
    if is_elsewhere(scope, admin_port):
        return not private
    return private or (scope["method"], path) in ON_BOTH


def _numbered(new_id: Callable[[], str]) -> Callable[[Any], Any]:
    """Gives each answer of the ordinary routes an id, as calls and refusals have one."""

    def numbered(response: Any) -> Any:
        if isinstance(response, Response):
            response.headers.setdefault("x-request-id", new_id())
        return response

    return numbered


def _cors(origins: tuple[str, ...]) -> CORSConfig | None:
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PATCH", "DELETE", "OPTIONS"],
        allow_headers=["*"],  # clients send headers of their own, such as x-stainless-*
        expose_headers=list(EXPOSED),
        allow_credentials=False,
    )
