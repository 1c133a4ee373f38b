"""Every operation of the API as the OpenAPI document describes it: data, in the order people read it.

What is routed is in `routes.py`; tests hold the two against each other, and each example against its parser.
"""

import re
from typing import Any

from gateway.dialects.anthropic import request as anthropic_request
from gateway.dialects.native import chat as native_chat
from gateway.dialects.native import embed as native_embed
from gateway.dialects.native import generate as native_generate
from gateway.dialects.native import show as native_show
from gateway.dialects.openai import chat as openai_chat
from gateway.dialects.openai import completions as openai_completions
from gateway.dialects.openai import embeddings as openai_embeddings
from gateway.dialects.openai import responses_request as openai_responses_request
from gateway.dialects.plain import GenerateBody
from gateway.web import models, public
from gateway.web.admin.operations import ADMIN
from gateway.web.blocked import BLOCKED
from gateway.web.operation import CALL, EVENTS, LINES, LOOK, REFUSALS, Operation, Parameter, Streamed
from gateway.web.schema import anthropic, ollama, openai, plain, responses
from gateway.web.schema.examples import EMBEDDER, MODEL, THINKER

QUESTION = "Why is the sky blue? One sentence."
USER = {"role": "user", "content": QUESTION}
_PARAMETER = re.compile(r":\w+}")
_EXTENSION = (
    "Beside its own fields, the request takes `options`, `keep_alive`, `think` and `truncate` as Ollama's API does."
)


WAIT = Parameter(
    "x-max-wait-ms", "header", 5_000,
    "How many milliseconds the call may wait for a free backend, at most QUEUE_SECONDS_MAX; 0: give up at once.",
    {"type": "integer", "minimum": 0},
)  # fmt: skip
"""of every route that asks a backend"""


def _plain(path: str, id: str, summary: str, *parameters: Parameter) -> Operation:
    return Operation(
        method="post", path=path, id=id, summary=summary, tag="plain", family="plain",
        parameters=(*parameters, WAIT),
        about="Without `model`, the gateway's default model answers.", limits=True,
        request=GenerateBody, example={"prompt": QUESTION}, answer=plain.Generated,
        streamed=Streamed(LINES, (plain.GeneratedPiece, plain.Generated, plain.ErrorAnswer)), errors=CALL,
    )  # fmt: skip


MODEL_PARAMETER = Parameter("model", "path", MODEL, "A model's name; it may hold `/` and `:`.")

CALLS: tuple[Operation, ...] = (
    Operation(
        method="post", path="/v1/chat/completions", id="chat", summary="OpenAI chat", tag="openai",
        request=openai_chat.ChatCompletionRequest, example={"model": MODEL, "messages": [USER]},
        about=_EXTENSION, limits=True, parameters=(WAIT,), answer=openai.ChatCompletion,
        streamed=Streamed(EVENTS, (openai.ChatCompletionChunk, openai.ErrorAnswer), "[DONE]"), errors=CALL,
    ),
    Operation(
        method="post", path="/v1/completions", id="completions", summary="OpenAI completions", tag="openai",
        request=openai_completions.CompletionRequest, example={"model": MODEL, "prompt": QUESTION},
        about=_EXTENSION, limits=True, parameters=(WAIT,), answer=openai.Completion,
        streamed=Streamed(EVENTS, (openai.CompletionChunk, openai.ErrorAnswer), "[DONE]"), errors=CALL,
    ),
    Operation(
        method="post", path="/v1/embeddings", id="embeddings", summary="OpenAI embeddings", tag="openai",
        request=openai_embeddings.EmbeddingsRequest, example={"model": EMBEDDER, "input": ["first", "second"]},
        about="One vector for each input, as numbers or as base64.", limits=True, parameters=(WAIT,),
        answer=openai.EmbeddingList, errors=CALL,
    ),
    Operation(
        method="post", path="/v1/responses", id="responses", summary="OpenAI responses, stateless", tag="openai",
        request=openai_responses_request.ResponsesRequest, example={"model": MODEL, "input": QUESTION},
        about=f"Nothing is stored: send the whole conversation in `input`. {_EXTENSION}", limits=True,
        parameters=(WAIT,), answer=responses.ResponseObject, streamed=Streamed(EVENTS, responses.EVENTS), errors=CALL,
    ),
    Operation(
        method="post", path="/v1/messages", id="messages", summary="Anthropic messages", tag="anthropic",
        family="anthropic", request=anthropic_request.MessagesRequest,
        example={"model": THINKER, "max_tokens": 1_024, "messages": [USER]},
        about=_EXTENSION, limits=True, parameters=(WAIT,), answer=anthropic.Message,
        streamed=Streamed(EVENTS, anthropic.EVENTS), errors=CALL,
    ),
    Operation(
        method="post", path="/v1/messages/count_tokens", id="countTokens", tag="anthropic", family="anthropic",
        summary="How long a prompt is: an estimate, free of charge",
        request=anthropic_request.CountTokensRequest, example={"model": MODEL, "messages": [USER]},
        limits=True, answer=anthropic.TokenCount, errors=(*REFUSALS, 500, 503),
    ),
    Operation(
        method="post", path="/api/chat", id="nativeChat", summary="Ollama chat", tag="ollama", family="ollama",
        request=native_chat.ChatRequestBody, example={"model": MODEL, "messages": [USER]},
        limits=True, parameters=(WAIT,), answer=ollama.ChatLine,
        streamed=Streamed(LINES, (ollama.ChatLine, ollama.ErrorAnswer), unasked=True), errors=CALL,
    ),
    Operation(
        method="post", path="/api/generate", id="nativeGenerate", summary="Ollama generate", tag="ollama",
        family="ollama", request=native_generate.GenerateRequestBody, example={"model": MODEL, "prompt": QUESTION},
        limits=True, parameters=(WAIT,), answer=ollama.GenerateLine,
        streamed=Streamed(LINES, (ollama.GenerateLine, ollama.ErrorAnswer), unasked=True), errors=CALL,
    ),
    Operation(
        method="post", path="/api/embed", id="nativeEmbed", summary="Ollama embeddings", tag="ollama",
        family="ollama", request=native_embed.EmbedRequestBody, example={"model": EMBEDDER, "input": ["first"]},
        limits=True, parameters=(WAIT,), answer=ollama.Embeddings, errors=CALL,
    ),
    Operation(
        method="post", path="/api/embeddings", id="nativeEmbeddings", summary="One embedding, the older way",
        tag="ollama", family="ollama",
        request=native_embed.EmbeddingsRequestBody, example={"model": EMBEDDER, "prompt": "first"},
        limits=True, parameters=(WAIT,), answer=ollama.LegacyEmbedding, errors=CALL,
    ),
    _plain("/v1/generate", "generate", "A prompt in, its answer out"),
    _plain("/generate", "generatePlain", "The same, for older clients"),
    _plain("/generate/{model}", "generateWith", "The same, with the model in the path", MODEL_PARAMETER),
)  # fmt: skip

LOOKS: tuple[Operation, ...] = (
    Operation(
        method="get", path="/v1/models", id="listModels", summary="Models of all backends", tag="openai",
        answer=models.ModelList, errors=LOOK,
    ),
    Operation(
        method="get", path="/v1/models/{id}", id="retrieveModel", summary="One model", tag="openai",
        parameters=(Parameter("id", "path", MODEL, "A model's name; it may hold `/` and `:`."),),
        answer=models.ModelEntry, errors=(*LOOK, 403, 404),
    ),
    Operation(
        method="get", path="/v1/models/pull", id="retrieveModelPull", summary="The model called pull", tag="openai",
        answer=models.ModelEntry, errors=(*LOOK, 403, 404),
    ),
    Operation(
        method="get", path="/api/tags", id="tags", summary="Models of all backends, as Ollama lists them",
        tag="ollama", family="ollama", answer=models.TagList, errors=LOOK,
    ),
    Operation(
        method="get", path="/api/ps", id="ps", summary="Models in memory anywhere", tag="ollama", family="ollama",
        answer=models.ProcessList, errors=LOOK,
    ),
    Operation(
        method="post", path="/api/show", id="show", summary="What a model is, without files and system prompts",
        tag="ollama", family="ollama", request=native_show.ShowRequestBody, example={"model": MODEL},
        answer=native_show.ShowAnswer, errors=(*LOOK, 403, 404, 408, 413, 415, 502, 504),
    ),
    Operation(
        method="get", path="/api/version", id="version", summary="The lowest version of the backends", tag="ollama",
        family="ollama", answer=models.Version, errors=LOOK,
    ),
    Operation(
        method="get", path="/v1/usage", id="usage", summary="What this key has used and has left", tag="usage",
        about="It counts as no request. `by_day` and `by_model` are of this month (UTC), a second or two behind, and "
        "null while the database does not answer.", limits=True, answer=public.UsageReport, errors=LOOK,
    ),
)  # fmt: skip

SERVICE: tuple[Operation, ...] = (
    Operation(
        method="get", path="/", id="info", summary="What this service is", tag="service", access="anyone",
        answer=public.Info, errors=(),
    ),
    Operation(
        method="get", path="/health", id="health", summary="Whether the process lives", tag="service",
        access="anyone", answer=public.Health, errors=(),
    ),
    Operation(
        method="get", path="/ready", id="ready", summary="Whether to send requests here", tag="service",
        access="anyone", answer=public.Readiness, errors=(503,),
    ),
    Operation(
        method="get", path="/metrics", id="metrics", summary="Prometheus metrics", tag="service", access="anyone",
        answer=str, content_type="text/plain", errors=(500,),
    ),
)  # fmt: skip


def _refused(path: str, method: Any, words: str) -> Operation:
    """A route of Ollama's that this gateway has only to say no."""
    names = path.replace("}", "{").split("{")[1::2]
    return Operation(
        method=method, path=path, id=f"blocked{method.title()}{path.title().replace('/', '').partition('{')[0]}",
        summary=f"Blocked: {words.partition(':')[0]}", tag="blocked", access="anyone", family="ollama",
        parameters=tuple(Parameter(name, "path", "x", "Anything.") for name in names), errors=(403,),
    )  # fmt: skip


OPERATIONS: tuple[Operation, ...] = (
    *CALLS,
    *LOOKS,
    *ADMIN,
    *SERVICE,
    *(_refused(*place) for place in sorted({
        (_PARAMETER.sub("}", one.path), method.value.lower(), one.words)
        for one in BLOCKED for method in one.methods if method.value != "HEAD"
    })),
)  # fmt: skip
