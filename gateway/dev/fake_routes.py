"""The fake Ollama's routes: which answer a request gets. Nothing is sent here."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.names import canonical
from gateway.dev.fake_answers import embedding, generate
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_generation import Generation, error_body
from gateway.dev.fake_http import NDJSON, TEXT, Request
from gateway.dev.fake_models import Model
from gateway.dev.fake_prompts import parts_of, tokens_of
from gateway.dev.fake_rules import Refused, check, decode, find_model
from gateway.dev.fake_runner import Job, fit_of
from gateway.dev.fake_sender import Whole
from gateway.dev.fake_shelf import Shelf
from gateway.dev.fake_times import keep_alive_s

PULLED_BYTES = 1_321_082_688
POSTS = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/pull")
_encode = msgspec.json.Encoder().encode


class Answer(Struct, frozen=True):
    """What a request gets. `body` is its own, decoded; `job`: what a model has to do first."""

    said: Whole | Generation
    body: dict[str, Any] | None = None
    job: Job | None = None


def answer(shelf: Shelf, request: Request, behaviour: Behaviour) -> Answer:
    if read := _READS.get(request.path):
        return Answer(read(shelf) if request.method in {"GET", "HEAD"} else _wrong_method())
    if request.path not in POSTS:
        return Answer(Whole(status=404, content_type=TEXT, body=b"404 page not found"))
    if request.method != "POST":
        return Answer(_wrong_method())
    body = None
    try:
        body = decode(request.path, request.body)
        said, job = _post(shelf, request.path, body, behaviour)
        return Answer(said, body, job)
    except Refused as refused:
        return Answer(Whole(status=refused.status, body=error_body(refused.text)), body)


_READS: dict[str, Callable[[Shelf], Whole]] = {
    "/": lambda _: Whole(content_type="text/plain; charset=utf-8", body=b"Ollama is running"),
    "/api/version": lambda shelf: Whole(body=_encode({"version": shelf.version})),
    "/api/status": lambda _: Whole(body=_encode({"cloud": {"disabled": True, "source": "env"}})),
    "/api/tags": lambda shelf: Whole(body=_encode(shelf.tags())),
    "/api/ps": lambda shelf: Whole(body=_encode(shelf.ps())),
}


def _post(shelf: Shelf, path: str, body: dict[str, Any], behaviour: Behaviour) -> tuple[Whole | Generation, Job | None]:
    if path == "/api/pull":
        return _pull(shelf, body), None
    model = find_model(path, body, shelf)
    if path == "/api/show":
        return Whole(body=_encode(shelf.show(model))), None
    check(path, body, model)
    chats = path in {"/api/chat", "/api/generate"}
    empty = chats and not body.get("messages" if path == "/api/chat" else "prompt")
    job = Job(
        model=model,
        fit=fit_of(model, body),
        keep_alive=body.get("keep_alive"),
        parts=parts_of(path, body),
        loads_only=empty,
        cached=chats,
    )
    if empty:
        unload = body.get("keep_alive") is not None and keep_alive_s(body["keep_alive"]) == 0
        if unload:
            shelf.unload(model)
        return _loaded(path, body, "unload" if unload else "load"), None if unload else job
    if chats:
        return _generation(path, body, model, behaviour), job
    return _embed(body, model, job) if path == "/api/embed" else _embedding(body, model), job


def _pull(shelf: Shelf, body: dict[str, Any]) -> Whole:
    """Progress in lines; the model is there when they are sent. Names that begin with "missing" are not found."""
    name = canonical(body.get("model") or body.get("name") or "")
    if name is None:
        raise Refused(400, "invalid model name")
    lines: list[dict[str, Any]] = [{"status": "pulling manifest"}]
    if name.rpartition("/")[2].startswith("missing"):
        lines.append({"error": "pull model manifest: file does not exist"})
    else:
        shelf.add(name)
        part = {"status": "pulling 74701a8c35f6", "digest": "sha256:74701a8c35f6", "total": PULLED_BYTES}
        lines += [part, *(part | {"completed": PULLED_BYTES * done // 100} for done in range(1, 101))]
        lines += [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
    return Whole(content_type=NDJSON, chunks=[_encode(line) + b"\n" for line in lines])


def _loaded(path: str, body: dict[str, Any], done_reason: str) -> Whole:
    """An empty prompt loads the model, or unloads it with keep_alive 0; the answer is never streamed."""
    said = Generation(path=path, model=body["model"], tokens=[], prompt_tokens=0, ends=False).whole()
    line = msgspec.json.decode(said)
    return Whole(body=_encode(line | {"done": True, "done_reason": done_reason}))


def _generation(path: str, body: dict[str, Any], model: Model, behaviour: Behaviour) -> Whole | Generation:
    generation = generate(path, body, "thinking" in model.capabilities, behaviour.text, behaviour.tokens)
    if generation.error is not None and not generation.count:
        return _rejected(generation)
    return generation


def _embedding(body: dict[str, Any], model: Model) -> Whole:
    return Whole(body=_encode({"embedding": embedding(body.get("prompt", ""), model.embedding_length)}))


def _embed(body: dict[str, Any], model: Model, job: Job) -> Whole:
    given = body.get("input", [])
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise Refused(400, "invalid input type")
    length = min(body.get("dimensions") or model.embedding_length, model.embedding_length)
    answer = {"model": body["model"], "embeddings": [embedding(text, length) for text in inputs if text]}
    durations = {"total_duration": 5_000_000, "load_duration": 1_000_000}
    said = answer | durations | {"prompt_eval_count": tokens_of(job.parts)}
    return Whole(body=_encode(said), counted=said)


def _rejected(generation: Generation) -> Whole:
    """A 400 before the first token; to a client that wanted a stream it comes in a chunk."""
    body = error_body(generation.error or "")
    if generation.streamed:
        return Whole(status=400, content_type="application/json", chunks=[body])
    return Whole(status=400, body=body)


def _wrong_method() -> Whole:
    return Whole(status=405, content_type=TEXT, body=b"405 method not allowed")
