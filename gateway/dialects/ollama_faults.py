"""What a backend's refusal or broken answer means, in the gateway's own errors (reference: ollama-http section 3)."""

import re
from typing import Any

import msgspec

from gateway.errors import BackendBusy, BackendFault, BadRequest, ContextExceeded, GatewayError, ModelNotFound

UPSTREAM_TEXT_CHARS_MAX = 300
RAW_TEXT_CHARS_MAX = 4_096
_PLACES = re.compile(r"https?://[^\s\"']+|(?<![\w.])/(?:[\w.-]+/)+[\w.-]+")
"""addresses and files of a node, which are not the client's to know"""
_TOO_LONG = (
    "exceeds the available context size",
    "exceeds the context length",
    "exceed_context_size_error",
    "longer than the context",
)
_RUNNER_FAILED = ("embedding request:", "unsupported value: nan", "runner has unexpectedly stopped", "context canceled")
"""what /api/embed says with a 400 although nothing is wrong with the request"""
_LOAD_FAILED = (
    "server process has terminated",
    "runner process has terminated",
    "timed out waiting",
    "out-of-memory",
    "out of memory",
    "more system memory",
    "failed to load model",
    "unable to load model",
    "failed to allocate",
)
"""as long as no runner died that had loaded the model"""
_CLIENTS_STARTS = (
    "option ",
    "invalid format",
    "invalid json schema",
    "template: ",
    "image: ",
    "------------ while exec",
)
_CLIENTS_WORDS = (
    "jinja",
    "raise_exception",
    "chat template",
    "while executing",
    "reasoning effort",
    "parse grammar",
    "initialize samplers",
    "supports one image",
    "required for image input",
    "failed to load image",
)
"""what a 500 says that the request itself has caused: its options, its format, what a template makes of its messages"""


def fault(status: int, body: bytes) -> GatewayError:
    """What a backend's refusal means; `elsewhere` is set where another may do better, `blames` where it is to blame.

    A client's mistake keeps Ollama's wording, which names the field; a node's fault is worded by the gateway. Any other
    500 is not tried elsewhere, for the prompt may be its cause, and would fail on one node after the other.
    """
    text = _error_text(body)
    if status == 404:
        return ModelNotFound()
    if status == 503:
        return BackendBusy()
    if any(words in text for words in _TOO_LONG):
        return ContextExceeded(f"The model refused the prompt: {text}")
    runner_failed, load_failed, clients = _causes(text)
    if clients or (status == 400 and not runner_failed):
        return BadRequest(f"The model refused this request: {text}")
    elsewhere = load_failed or (status == 400 and runner_failed)
    return BackendFault(f"The model server behind this gateway failed: {text}", elsewhere=elsewhere)


def _causes(text: str) -> tuple[bool, bool, bool]:
    """Whether the runner failed, loading failed, or the client is to blame; one of them at most.

    Only what stands in front of a quotation counts: a client could have a node blamed for a word of its own.
    """
    said = text.lower()
    if said.startswith(_CLIENTS_STARTS):
        return False, False, True
    said = said.partition('"')[0]
    runner_failed = any(words in said for words in _RUNNER_FAILED)
    load_failed = not runner_failed and any(words in said for words in _LOAD_FAILED)
    clients = not runner_failed and not load_failed and any(words in said for words in _CLIENTS_WORDS)
    return runner_failed, load_failed, clients


def _error_text(body: bytes) -> str:
    try:
        return shown(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return "no reason given"


def shown(error: Any) -> str:
    """An upstream error as one short line; llama-server's are JSON within a string."""
    if isinstance(error, str):
        try:
            inner = msgspec.json.decode(error)
            error = inner["error"]["message"] if isinstance(inner["error"], dict) else inner["error"]
        except (msgspec.DecodeError, RecursionError, KeyError, TypeError):
            pass
    text = _PLACES.sub("…", " ".join(str(error)[:RAW_TEXT_CHARS_MAX].split()))
    return text[:UPSTREAM_TEXT_CHARS_MAX]
