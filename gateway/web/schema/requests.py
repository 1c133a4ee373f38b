"""What the parsers refuse beyond the types of their structs, as the OpenAPI document says it.

Structs leave such a field open where an error of our own says better what to do than msgspec's would. Each entry here
is only said; it changes nothing about what is taken.
"""

from typing import Any

from msgspec import Struct

from gateway.dialects.anthropic import request as anthropic_request
from gateway.dialects.native.chat import ChatRequestBody
from gateway.dialects.native.embed import EmbeddingsRequestBody, EmbedRequestBody
from gateway.dialects.native.generate import GenerateRequestBody
from gateway.dialects.openai.chat import ChatCompletionRequest, JsonSchema
from gateway.dialects.openai.completions import CompletionRequest
from gateway.dialects.openai.embeddings import EmbeddingsRequest
from gateway.dialects.openai.responses_request import ResponsesRequest
from gateway.dialects.openai.tools import OfferedFunction, OfferedTool
from gateway.dialects.policy import INPUTS_MAX, PROMPTS_MAX
from gateway.dialects.tools import NAME_CHARS_MAX

Schema = dict[str, Any]
OBJECT: Schema = {"type": "object"}
NULL: Schema = {"type": "null"}
TEXT: Schema = {"type": "string", "minLength": 1}
ONE: Schema = {"anyOf": [{"const": 1}, NULL], "description": "This gateway gives one answer a call."}
REFUSED: Schema = NULL | {"description": "Refused: this gateway does not do that."}
FORMAT: Schema = {
    "anyOf": [{"const": "json"}, OBJECT, NULL, {"const": ""}],
    "description": '"json", or a JSON schema that the answer is to fit.',
}


def texts(most: int) -> Schema:
    """A text, or a list of up to `most` of them."""
    return {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1, "maxItems": most}]}


NEEDED: dict[type[Struct], tuple[str, ...]] = {
    CompletionRequest: ("prompt",),
    ResponsesRequest: ("model", "input"),
    ChatRequestBody: ("model", "messages"),
    GenerateRequestBody: ("model", "prompt"),
    EmbedRequestBody: ("model", "input"),
    EmbeddingsRequestBody: ("model", "prompt"),
    JsonSchema: ("schema",),
    OfferedTool: ("function",),
    anthropic_request.ToolGiven: ("name", "input_schema"),
    anthropic_request.OutputFormat: ("schema",),
}
"""fields that must be there, and be neither null nor empty"""

NARROWER: dict[type[Struct], dict[str, Schema]] = {
    ChatCompletionRequest: {
        "n": ONE,
        "audio": REFUSED,
        "web_search_options": REFUSED,
        "moderation": REFUSED,
        "function_call": REFUSED,
    },
    CompletionRequest: {"n": ONE, "best_of": ONE, "prompt": texts(PROMPTS_MAX)},
    EmbeddingsRequest: {"input": texts(INPUTS_MAX)},
    ChatRequestBody: {"format": FORMAT},
    GenerateRequestBody: {"format": FORMAT},
    JsonSchema: {"schema": OBJECT},
    OfferedTool: {"type": {"const": "function", "default": "function"}},
    OfferedFunction: {"parameters": {"anyOf": [OBJECT, NULL]}},
    anthropic_request.ToolGiven: {
        "type": {"anyOf": [{"const": "custom"}, NULL], "default": None},
        "name": TEXT | {"maxLength": NAME_CHARS_MAX},
        "input_schema": OBJECT,
    },
    anthropic_request.OutputFormat: {"schema": OBJECT},
}
"""fields that take less than their type does"""


def narrow(struct: type[Struct], component: Schema) -> None:
    """Puts both into the schema of a struct."""
    fields = component["properties"]
    fields |= NARROWER.get(struct, {})
    for name in NEEDED.get(struct, ()):
        fields[name] = _given(fields[name])
    component["required"] = list(dict.fromkeys([*component.get("required", []), *NEEDED.get(struct, ())]))
    if not component["required"]:
        del component["required"]


def _given(field: Schema) -> Schema:
    """The schema of a field that must hold something."""
    forms = [one for one in field.get("anyOf", [field]) if one != NULL]
    more = [one | {"string": {"minLength": 1}, "array": {"minItems": 1}}.get(one.get("type", ""), {}) for one in forms]
    said = {name: value for name, value in field.items() if name == "description"}
    return (more[0] if len(more) == 1 else {"anyOf": more}) | said
