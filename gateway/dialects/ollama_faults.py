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
_RUNNER_FAILED = ("embedding request:", "unsupported value: NaN", "runner has unexpectedly stopped", "context canceled")
"""what /api/embed says with a 400 although nothing is wrong with the request"""


def fault(status: int, body: bytes) -> GatewayError:
    """What a backend's refusal means; `elsewhere` is set where another may do better.

    A client's mistake keeps Ollama's wording, which names the field; a node's fault is worded by the gateway.
    """
    text = _error_text(body)
    if status == 404:
        return ModelNotFound()
    if status == 503:
        return BackendBusy()
    if any(words in text for words in _TOO_LONG):
        return ContextExceeded(f"The model refused the prompt: {text}")
    runner_failed = any(words in text for words in _RUNNER_FAILED)
    if (status == 400 and not runner_failed) or text.startswith(("option ", "invalid format")):
        return BadRequest(f"The model refused this request: {text}")
    elsewhere = _is_load_failure(text) or (status == 400 and runner_failed)
    return BackendFault(f"The model server behind this gateway failed: {text}", elsewhere=elsewhere)


def _is_load_failure(text: str) -> bool:
    return "llama-server process has terminated" in text or "timed out waiting" in text or "out-of-memory" in text


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
