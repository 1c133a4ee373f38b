"""What the fake Ollama refuses, in Ollama's words: Go's JSON decoder, model names, capabilities, options."""

import json
from typing import Any

from gateway.core.names import canonical
from gateway.dev.fake_models import Model
from gateway.dev.fake_shelf import Shelf
from gateway.dev.fake_times import keep_alive_s

_FIELDS: dict[str, tuple[type, str]] = {
    "model": (str, "string"),
    "prompt": (str, "string"),
    "system": (str, "string"),
    "stream": (bool, "bool"),
    "logprobs": (bool, "bool"),
    "raw": (bool, "bool"),
    "messages": (list, "[]api.Message"),
    "tools": (list, "api.Tools"),
    "images": (list, "[]api.ImageData"),
    "options": (dict, "map[string]interface {}"),
}
_INTEGERS = {"num_predict", "num_ctx", "num_keep", "num_batch", "num_gpu", "top_k", "seed", "repeat_last_n"}
_NUMBERS = {"temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty"}
_THINK = {"low", "medium", "high", "max"}
_OF_ROUTE = {"/api/chat": "ChatRequest", "/api/generate": "GenerateRequest"}


class Refused(Exception):
    """The request gets an error: `status`, and the text for its `error` field."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def decode(path: str, raw: bytes) -> dict[str, Any]:
    """The body as Go reads it: keys without case, the last duplicate wins, what follows the first value is ignored."""
    text = raw.decode("utf-8", "replace").lstrip()
    if not text:
        raise Refused(400, "missing request body")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        torn = error.pos >= len(text) or error.msg.startswith("Unterminated")
        where = "" if torn else text[error.pos]
        said = "unexpected EOF" if torn else f"invalid character '{where}' looking for beginning of value"
        raise Refused(400, said) from None
    except RecursionError:
        raise Refused(400, "exceeded max depth") from None
    if not isinstance(value, dict):
        raise Refused(400, f"json: cannot unmarshal {_kind(value)} into Go value of type api.{_request(path)}")
    body = {key.lower(): part for key, part in value.items() if part is not None}
    for name, (wanted, said) in _FIELDS.items():
        _check_type(path, name, body.get(name), wanted, said)
    for message in body.get("messages") or ():
        _check_type(path, "messages", message, dict, "api.Message")
        _check_type(path, "messages.content", message.get("content"), str, "string")
    return body


def find_model(path: str, body: dict[str, Any], shelf: Shelf) -> Model:
    name = body.get("model", "")
    if not name:
        raise Refused(400, "model is required")
    if canonical(name) is None:
        raise Refused(400, "invalid model name")
    if (model := shelf.find(name)) is not None:
        return model
    if path == "/api/show":
        raise Refused(404, f"model '{canonical(name)}' not found")
    if path.startswith("/api/embed"):
        raise Refused(404, f'model "{name}" not found, try pulling it first')
    raise Refused(404, f"model '{name}' not found")


def check(path: str, body: dict[str, Any], model: Model) -> None:
    """Raises `Refused` for what the model cannot do and for options of the wrong type (a 500, as with Ollama)."""
    try:
        keep_alive_s(body.get("keep_alive"))
    except ValueError as error:
        raise Refused(400, str(error)) from None
    if path in _OF_ROUTE and "completion" not in model.capabilities:
        raise Refused(400, f'"{body["model"]}" does not support {path.removeprefix("/api/")}')
    if body.get("tools") and "tools" not in model.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{model.name} does not support tools")
    _check_think(body, model)
    for name, value in (body.get("options") or {}).items():
        _check_option(name, value)
    form = body.get("format", "")
    if not isinstance(form, dict) and form not in ("", "json"):
        raise Refused(500, f'invalid format: {json.dumps(form)}; expected "json" or a valid JSON Schema object')


def _check_think(body: dict[str, Any], model: Model) -> None:
    think = body.get("think", False)
    if not isinstance(think, bool) and think not in _THINK:
        raise Refused(
            400, f'invalid think value: {json.dumps(think)} (must be "high", "medium", "low", true, or false)'
        )
    if think and "thinking" not in model.capabilities:
        raise Refused(400, f'"{body["model"]}" does not support thinking')


def _check_option(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS and not (number and float(value).is_integer()):
        raise Refused(500, f'option "{name}" must be of type integer')
    if name in _NUMBERS and not number:
        raise Refused(500, f'option "{name}" must be of type float32')
    if name == "stop" and not isinstance(value, list):
        raise Refused(500, 'option "stop" must be of type array')


def _check_type(path: str, name: str, value: Any, wanted: type, said: str) -> None:
    if value is not None and not isinstance(value, wanted):
        where = f"{_request(path)}.{name}"
        raise Refused(400, f"json: cannot unmarshal {_kind(value)} into Go struct field {where} of type {said}")


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "bool"}
    return kinds.get(type(value), "number")


def _request(path: str) -> str:
    return _OF_ROUTE.get(path, path.rpartition("/")[2].capitalize() + "Request")
