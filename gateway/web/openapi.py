"""The OpenAPI document. Bare ASGI routes have no signature to read, so each is described here by a stand-in handler
that is never routed: same path, the dialect's own request struct, the answer's shape."""

from typing import Any

from litestar import Litestar, Response, get, post
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from gateway.dialects.openai_chat import ChatCompletionRequest
from gateway.dialects.plain import GenerateBody
from gateway.web import public
from gateway.web.admin import KeyController

KEY = public.KEY


class Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Generated(Struct):
    """The plain answer."""

    response: str
    done: bool
    done_reason: str
    model: str
    id: str
    usage: Usage


class AnswerMessage(Struct, kw_only=True):
    role: str
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(Struct):
    index: int
    message: AnswerMessage
    finish_reason: str


class ChatCompletion(Struct):
    """OpenAI's answer; with `stream: true`, server-sent events of `chat.completion.chunk` objects instead."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


@post("/v1/chat/completions", operation_id="chat", summary="OpenAI chat", tags=["calls"], security=KEY, status_code=200)
async def chat(data: JSONBody[ChatCompletionRequest]) -> ChatCompletion:
    raise NotImplementedError


def _plain(path: str, operation_id: str) -> Any:
    @post(path, operation_id=operation_id, summary="A prompt in, its answer out", tags=["calls"], security=KEY,
          status_code=200)  # fmt: skip
    async def generate(data: JSONBody[GenerateBody]) -> Generated:
        raise NotImplementedError

    return generate


@post(
    "/generate/{model:str}",
    operation_id="generateWith",
    summary="The same, with the model in the path",
    tags=["calls"],
    security=KEY,
    status_code=200,
)
async def generate_with(model: FromPath[str], data: JSONBody[GenerateBody]) -> Generated:
    raise NotImplementedError


def document(version: str) -> bytes:
    """The whole document as JSON."""
    described = Litestar(
        [
            chat,
            _plain("/v1/generate", "generate"),
            _plain("/generate", "generatePlain"),
            generate_with,
            *public.HANDLERS,
            KeyController,
        ],
        openapi_config=OpenAPIConfig(
            title="LLM Gateway",
            version=version,
            description="Keys, exact limits, accounting and one address for many Ollama nodes.",
            components=Components(
                security_schemes={
                    "BearerKey": SecurityScheme(type="http", scheme="bearer"),
                    "HeaderKey": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
                    "AdminSecret": SecurityScheme(type="apiKey", name="X-Admin-Secret", security_scheme_in="header"),
                }
            ),
        ),
    )
    from litestar.serialization import encode_json

    return encode_json(described.openapi_schema.to_schema())


@get("/openapi.json", include_in_schema=False, sync_to_thread=True)
def openapi_json(request: public.Requested) -> Response[bytes]:
    """Made when it is first asked for and then kept."""
    kept: list[bytes] = request.app.state.openapi
    if not kept:
        kept.append(document(request.app.state.public.version))
    return Response(kept[0], media_type="application/json")
