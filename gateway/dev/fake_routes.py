"""The fake Ollama's routes: which answer a request gets. Nothing is sent here."""

from typing import Any

import msgspec

from gateway.core.names import canonical
from gateway.dev.fake_answers import embedding, generate
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_generation import Generation, error_body
from gateway.dev.fake_http import NDJSON, TEXT, Request
from gateway.dev.fake_models import Model
from gateway.dev.fake_rules import Refused, check, decode, find_model
from gateway.dev.fake_sender import Whole
from gateway.dev.fake_shelf import Shelf
from gateway.dev.fake_times import keep_alive_s

PULLED_BYTES = 1_321_082_688
POSTS = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/pull")
_encode = msgspec.json.Encoder().encode


def answer(shelf: Shelf, request: Request, behaviour: Behaviour) -> tuple[dict[str, Any] | None, Whole | Generation]:
    """The decoded body, if there was one to decode, and the answer."""
    reads = _reads(shelf)
    if request.path in reads:
        return None, reads[request.path] if request.method in {"GET", "HEAD"} else _wrong_method()
    if request.path not in POSTS:
        return None, Whole(status=404, content_type=TEXT, body=b"404 page not found")
    if request.method != "POST":
        return None, _wrong_method()
    body = None
    try:
        body = decode(request.path, request.body)
        return body, _post(shelf, request.path, body, behaviour)
    except Refused as refused:
        return body, Whole(status=refused.status, body=error_body(refused.text))


def _reads(shelf: Shelf) -> dict[str, Whole]:
    return {
        "/": Whole(content_type="text/plain; charset=utf-8", body=b"Ollama is running"),
        "/api/version": Whole(body=_encode({"version": shelf.version})),
        "/api/status": Whole(body=_encode({"cloud": {"disabled": True, "source": "env"}})),
        "/api/tags": Whole(body=_encode(shelf.tags())),
        "/api/ps": Whole(body=_encode(shelf.ps())),
    }


def _post(shelf: Shelf, path: str, body: dict[str, Any], behaviour: Behaviour) -> Whole | Generation:
    if path == "/api/pull":
        return _pull(shelf, body)
    model = find_model(path, body, shelf)
    if path == "/api/show":
        return Whole(body=_encode(shelf.show(model)))
    check(path, body, model)
    keep_alive = body.get("keep_alive")
    empty = not body.get("messages" if path == "/api/chat" else "prompt")
    if path in {"/api/chat", "/api/generate"} and empty:
        return _load(shelf, path, body, model)
    shelf.load(model, keep_alive, (body.get("options") or {}).get("num_ctx"))
    if path == "/api/embed":
        return _embed(body, model)
    if path == "/api/embeddings":
        return Whole(body=_encode({"embedding": embedding(body.get("prompt", ""), model.embedding_length)}))
    generation = generate(path, body, "thinking" in model.capabilities, behaviour.text, behaviour.tokens)
    if generation.error is not None and not generation.count:
        return _rejected(generation)
    return generation


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


def _load(shelf: Shelf, path: str, body: dict[str, Any], model: Model) -> Whole:
    """An empty prompt loads the model, or unloads it with keep_alive 0; the answer is never streamed."""
    unload = body.get("keep_alive") is not None and keep_alive_s(body["keep_alive"]) == 0
    if unload:
        shelf.unload(model)
    else:
        shelf.load(model, body.get("keep_alive"), (body.get("options") or {}).get("num_ctx"))
    said = Generation(path=path, model=body["model"], tokens=[], prompt_tokens=0, ends=False).whole()
    line = msgspec.json.decode(said)
    return Whole(body=_encode(line | {"done": True, "done_reason": "unload" if unload else "load"}))


def _embed(body: dict[str, Any], model: Model) -> Whole:
    given = body.get("input", [])
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise Refused(400, "invalid input type")
    length = min(body.get("dimensions") or model.embedding_length, model.embedding_length)
    answer = {"model": body["model"], "embeddings": [embedding(text, length) for text in inputs if text]}
    counts = {"prompt_eval_count": sum(len(text.split()) + 1 for text in inputs if text)}
    return Whole(body=_encode(answer | {"total_duration": 5_000_000, "load_duration": 1_000_000} | counts))


def _rejected(generation: Generation) -> Whole:
    """A 400 before the first token; to a client that wanted a stream it comes in a chunk."""
    body = error_body(generation.error or "")
    if generation.streamed:
        return Whole(status=400, content_type="application/json", chunks=[body])
    return Whole(status=400, body=body)


def _wrong_method() -> Whole:
    return Whole(status=405, content_type=TEXT, body=b"405 method not allowed")
