"""Every route as data. What is listed here is what there is; tests compare it with README and the OpenAPI document."""

from typing import Any

from litestar import asgi, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from gateway.dialects import plain
from gateway.dialects.anthropic import errors as anthropic_errors
from gateway.dialects.anthropic import messages as anthropic_messages
from gateway.dialects.asked import Dialect
from gateway.dialects.native import chat as native_chat
from gateway.dialects.native import embed as native_embed
from gateway.dialects.native import errors as native_errors
from gateway.dialects.native import generate as native_generate
from gateway.dialects.openai import chat as openai_chat
from gateway.dialects.openai import completions as openai_completions
from gateway.dialects.openai import embeddings as openai_embeddings
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai import responses as openai_responses
from gateway.web import blocked, models, pages, public
from gateway.web.admin.router import router as admin_router
from gateway.web.calls import CallEndpoint
from gateway.web.counting import CountEndpoint
from gateway.web.openapi import openapi_json
from gateway.web.pull import pull

OPENAI_CHAT = Dialect(openai_chat.parse, openai_errors.render)
OPENAI_COMPLETIONS = Dialect(openai_completions.parse, openai_errors.render)
OPENAI_EMBEDDINGS = Dialect(openai_embeddings.parse, openai_errors.render)
OPENAI_RESPONSES = Dialect(openai_responses.parse, openai_errors.render)
ANTHROPIC_IDS = (b"x-request-id", b"request-id")
ANTHROPIC = Dialect(anthropic_messages.parse, anthropic_errors.render, ANTHROPIC_IDS)
ANTHROPIC_COUNT = Dialect(anthropic_messages.parse_count, anthropic_errors.render, ANTHROPIC_IDS)
NATIVE_CHAT = Dialect(native_chat.parse, native_errors.render)
NATIVE_GENERATE = Dialect(native_generate.parse, native_errors.render)
NATIVE_EMBED = Dialect(native_embed.parse, native_errors.render)
NATIVE_EMBEDDINGS = Dialect(native_embed.parse_older, native_errors.render)
PLAIN = Dialect(plain.parse, plain.render_error, has_default_model=True)

CALLS: dict[str, Dialect] = {
    "/v1/chat/completions": OPENAI_CHAT,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/embeddings": OPENAI_EMBEDDINGS,
    "/v1/responses": OPENAI_RESPONSES,
    "/v1/messages": ANTHROPIC,
    "/api/chat": NATIVE_CHAT,
    "/api/generate": NATIVE_GENERATE,
    "/api/embed": NATIVE_EMBED,
    "/api/embeddings": NATIVE_EMBEDDINGS,
    "/v1/generate": PLAIN,
    "/generate": PLAIN,
}
"""Hot routes, each a bare ASGI handler."""


def handlers() -> list[ControllerRouterHandler]:
    return [
        *(_hot(path, dialect) for path, dialect in CALLS.items()),
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


def _hot(path: str, dialect: Dialect) -> BaseRouteHandler:
    endpoint = CallEndpoint(path, dialect)

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
