"""Whom a backend's refusal is held against, and whether another is tried: section 3 of the reference as tables."""

import msgspec
import pytest

from gateway.dialects.ollama_faults import fault
from gateway.errors import BackendBusy, BackendFault, BadRequest, ContextExceeded, GatewayError, ModelNotFound

JINJA = (
    "\n------------\nWhile executing CallExpression at line 47, column 32 in source:\n...== 0) %}↵ "
    "{{- raise_exception('After the optional system message, con...\n ^\nError: Jinja Exception: Roles must alternate."
)


def refused(status: int, text: str) -> GatewayError:
    return fault(status, msgspec.json.encode({"error": text}))


def within(text: str, code: int) -> str:
    """As llama-server's errors come: JSON within the text."""
    return msgspec.json.encode({"error": {"code": code, "message": text, "type": "server_error"}}).decode()


CLIENTS = {
    "an option's type": (500, 'option "num_ctx" must be of type integer'),
    "an option of strings": (500, 'option "stop" must be of an array of strings'),
    "a format": (500, 'invalid format: "xml"; expected "json" or a valid JSON Schema object'),
    "a schema": (500, "invalid JSON schema in format"),
    "a schema llama-server does not know": (500, within("Failed to initialize samplers: failed to parse grammar", 500)),
    "the same, told rightly": (400, within("Failed to initialize samplers: failed to parse grammar", 400)),
    "a template of Jinja": (500, within(JINJA, 500)),
    "a template of Go": (
        500,
        'template: :3:12: executing "" at <index .Messages 1>: error calling index: out of range',
    ),
    "a renderer": (500, "this model only supports one image while more than one image requested"),
    "an effort": (500, within("Unexpected reasoning effort high", 500)),
    "an image": (500, "image: unknown format"),
    "an image llama-server cannot read": (500, within("Failed to load image or audio file", 500)),
    "an image without a projector": (500, "this model is missing data required for image input"),
    "bad JSON": (400, "unexpected EOF"),
    "no model": (400, "model is required"),
    "what the model cannot": (400, '"m" does not support thinking'),
    "a template option": (400, "raw mode does not support template, system, or context"),
}
TOO_LONG = {
    "chat": (400, within("request (9000 tokens) exceeds the available context size (4096 tokens)", 400)),
    "the same as a 500": (500, within("request (9000 tokens) exceeds the available context size (4096 tokens)", 500)),
    "chat, cut": (400, "the prompt is longer than the context length currently available"),
    "embed": (400, "the input length exceeds the context length"),
}
LOADS = {
    "terminated": (500, "llama-server process has terminated: exit status 1: error: failed to allocate CUDA0 buffer"),
    "terminated, of older versions": (500, "llama runner process has terminated: signal: killed"),
    "a template that cannot be loaded": (500, "llama-server process has terminated: failed to parse chat template"),
    "too slow": (500, "timed out waiting for llama-server to start - progress 0.10"),
    "no memory": (500, "model failed to load: out-of-memory during startup"),
    "no memory, in other words": (500, "CUDA error: out of memory"),
    "too large": (500, "model requires more system memory (9.1 GiB) than is available (4.0 GiB)"),
    "broken": (500, "unable to load model: /root/.ollama/models/blobs/sha256-ab"),
}
RUNNERS = {
    "dead": "model runner has unexpectedly stopped, this may be due to resource limitations: CUDA error: out of memory",
    "gone": 'do embedding request: Post "http://127.0.0.1:33967/embedding": EOF',
    "not a number": "failed to encode response: json: unsupported value: NaN",
    "cancelled": "context canceled",
}
OTHERS = {
    "compute": (500, "llama-server chat error: map[code:500 message:Compute error type:server_error]"),
    "output that cannot be read": (500, "llama-server chat error: Failed to parse input"),
    "nothing": (500, ""),
    "cloud": (403, "ollama cloud is disabled"),
    "a proxy": (502, "bad gateway"),
}


@pytest.mark.parametrize(("status", "text"), CLIENTS.values(), ids=CLIENTS)
def test_a_clients_mistake_is_a_400_and_nobodys_fault(status: int, text: str) -> None:
    error = refused(status, text)
    assert (type(error), error.status) == (BadRequest, 400)
    assert (error.blames, error.elsewhere) == ("", False)


@pytest.mark.parametrize(("status", "text"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_prompt_that_is_too_long_is_the_clients(status: int, text: str) -> None:
    error = refused(status, text)
    assert (type(error), error.blames, error.elsewhere) == (ContextExceeded, "", False)


@pytest.mark.parametrize(("status", "text"), LOADS.values(), ids=LOADS)
def test_a_load_that_failed_is_tried_elsewhere_and_held_against_the_model(status: int, text: str) -> None:
    error = refused(status, text)
    assert (type(error), error.blames, error.elsewhere) == (BackendFault, "model", True)


@pytest.mark.parametrize("text", RUNNERS.values(), ids=RUNNERS)
def test_a_runner_that_failed_is_tried_elsewhere_where_it_is_told_as_a_400_alone(text: str) -> None:
    """/api/embed says so. As a 500 the prompt may be what killed it (F34)."""
    for status in (400, 500):
        error = refused(status, text)
        assert (type(error), error.blames, error.elsewhere) == (BackendFault, "model", status == 400)


@pytest.mark.parametrize(("status", "text"), OTHERS.values(), ids=OTHERS)
def test_any_other_failure_is_not_tried_elsewhere(status: int, text: str) -> None:
    error = refused(status, text)
    assert (type(error), error.blames, error.elsewhere) == (BackendFault, "model", False)


def test_a_full_queue_and_a_model_that_is_missing_are_nobodys_fault_and_tried_elsewhere() -> None:
    busy = refused(503, "server busy, please try again.  maximum pending requests exceeded")
    missing = refused(404, "model 'x' not found")
    assert (type(busy), busy.blames, busy.elsewhere) == (BackendBusy, "", True)
    assert (type(missing), missing.blames, missing.elsewhere) == (ModelNotFound, "", True)


@pytest.mark.parametrize("word", ["out of memory", "llama-server process has terminated", "do embedding request:"])
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, 'invalid format: "{}"; expected "json" or a valid JSON Schema object'),
        (500, 'option "{}" must be of type integer'),
        (500, "{}"),
        (400, 'invalid think value: "{}" (must be "high", "medium", "low", true, or false)'),
    ],
)
def test_a_client_cannot_have_a_node_blamed_by_its_own_words(status: int, text: str, word: str) -> None:
    """Ejecting a model for everybody would be a matter of three requests."""
    told = within(JINJA + f" Unexpected role {word}", 500) if text == "{}" else text.format(word)
    assert (type(refused(status, told)), refused(status, told).blames) == (BadRequest, "")
