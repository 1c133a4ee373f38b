"""Every route as data. What is listed here is what there is; tests compare it with README and the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from litestar import asgi, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from gateway.web import blocked, models, pages, public
from gateway.web.admin.router import router as admin_router
from gateway.web.calls import CallEndpoint
from gateway.web.counting import CountEndpoint
from gateway.web.openapi import openapi_json
from gateway.web.pull import pull
from gateway.web.surfaces import ANTHROPIC_COUNT, CALLS, PLAIN


def endpoints() -> dict[str, CallEndpoint]:
    """Those of calls, by path."""
    return {path: CallEndpoint(path, dialect) for path, dialect in CALLS.items()}


def handlers(calls: Mapping[str, CallEndpoint]) -> list[ControllerRouterHandler]:
    return [
        *(_hot(path, endpoint) for path, endpoint in calls.items()),
        generate_with,
        count_tokens,
        *public.HANDLERS,
        *models.HANDLERS,
        *blocked.handlers(),
        pull,
        admin_router(),
        pages.docs_page,
        pages.redoc_page,
        pages.asset,
        openapi_json,
    ]


def _hot(path: str, endpoint: CallEndpoint) -> BaseRouteHandler:
    @asgi(path, copy_scope=False)
    async def hot(scope: Scope, receive: Receive, send: Send) -> None:
        await endpoint.answer(scope["litestar_app"].state.calls, scope, receive, send)

    return hot


_COUNT_TOKENS = CountEndpoint("/v1/messages/count_tokens", ANTHROPIC_COUNT)


@asgi("/v1/messages/count_tokens", copy_scope=False)
async def count_tokens(scope: Scope, receive: Receive, send: Send) -> None:
    state = scope["litestar_app"].state
    await _COUNT_TOKENS.answer(state.calls, state.public.inspector, scope, receive, send)


_GENERATE_WITH = CallEndpoint("/generate/{model}", PLAIN)


@post("/generate/{model:path}", include_in_schema=False, status_code=200)
async def generate_with(model: FromPath[str]) -> ASGIApp:
    """Litestar's bare handlers take no path parameters, so this one route is an ordinary one that answers with one."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await _GENERATE_WITH.answer(
            scope["litestar_app"].state.calls, scope, receive, send, str(model).removeprefix("/")
        )

    return answer
