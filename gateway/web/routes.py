"""Every route as data. What is listed here is what there is; tests compare it with README and the OpenAPI document."""

from typing import Any

from litestar import asgi, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from gateway.dialects import openai_chat, openai_errors, plain
from gateway.dialects.asked import Dialect
from gateway.web import pages, public
from gateway.web.admin import KeyController
from gateway.web.calls import CallEndpoint
from gateway.web.openapi import openapi_json

OPENAI_CHAT = Dialect(openai_chat.parse, openai_errors.render)
PLAIN = Dialect(plain.parse, plain.render_error)

CALLS: dict[str, Dialect] = {
    "/v1/chat/completions": OPENAI_CHAT,
    "/v1/generate": PLAIN,
    "/generate": PLAIN,
}
"""Hot routes, each a bare ASGI handler."""


def handlers() -> list[ControllerRouterHandler]:
    return [
        *(_hot(path, dialect) for path, dialect in CALLS.items()),
        generate_with,
        *public.HANDLERS,
        KeyController,
        pages.docs_page,
        pages.redoc_page,
        pages.asset,
        openapi_json,
    ]


def _hot(path: str, dialect: Dialect) -> BaseRouteHandler:
    endpoint = CallEndpoint(path, dialect)

    @asgi(path, copy_scope=False)
    async def hot(scope: Scope, receive: Receive, send: Send) -> None:
        await endpoint.answer(scope["litestar_app"].state.calls, scope, receive, send)

    return hot


_GENERATE_WITH = CallEndpoint("/generate/{model}", PLAIN)


@post("/generate/{model:path}", include_in_schema=False, status_code=200)
async def generate_with(model: FromPath[str]) -> ASGIApp:
    """Litestar's bare handlers take no path parameters, so this one route is an ordinary one that answers with one."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await _GENERATE_WITH.answer(
            scope["litestar_app"].state.calls, scope, receive, send, str(model).removeprefix("/")
        )

    return answer
