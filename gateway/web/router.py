"""The Litestar application around the routes: what it is given, how it refuses, who may call it from a browser."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Litestar, Response
from litestar.config.cors import CORSConfig

from gateway.telemetry.logs import Log
from gateway.web import routes
from gateway.web.headers import EXPOSED
from gateway.web.rendering import exception_handlers

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def application(
    lifespan: Lifespan, log: Log, new_id: Callable[[], str], *, body_bytes_max: int, cors_origins: tuple[str, ...]
) -> Litestar:
    """The app. `lifespan` puts `calls`, `public`, `pull` and `admin` (the deps of each group of routes) into its state.

    `new_id` makes the ids of requests that never become calls.
    """
    return Litestar(
        routes.handlers(),
        lifespan=[lifespan],
        exception_handlers=exception_handlers(log, new_id),
        after_request=_numbered(new_id),
        openapi_config=None,
        request_max_body_size=body_bytes_max,
        cors_config=_cors(cors_origins),
        logging_config=None,
    )


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
        allow_methods=["GET", "POST", "DELETE", "OPTIONS"],
        allow_headers=["*"],  # clients send headers of their own, such as x-stainless-*
        expose_headers=list(EXPOSED),
        allow_credentials=False,
    )
