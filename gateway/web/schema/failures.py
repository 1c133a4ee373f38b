"""The refusals and failures of each family of routes, as its dialect writes them: schema, codes and examples."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway import errors
from gateway.dialects import plain as plain_dialect
from gateway.dialects.anthropic import errors as anthropic_errors
from gateway.dialects.native import errors as native_errors
from gateway.dialects.openai import errors as openai_errors
from gateway.errors import GatewayError
from gateway.web.schema import anthropic, ollama, openai, plain

Family = Literal["openai", "anthropic", "ollama", "plain"]
REQUEST_ID = "01a2b3c4-d5e6-7f89-8a0b-1c2d3e4f5a6b"
"""of every example"""
UNSENT: tuple[type[GatewayError], ...] = (errors.CallAbandoned, errors.ReplicaLost)
"""nobody is there to read them: they stand in usage rows alone"""


class Form(Struct, frozen=True):
    """How a family writes errors: what they look like, and what makes (status, body) of one."""

    answer: type[Struct]
    render: Callable[[GatewayError, str], tuple[int, bytes]]


FORMS: dict[Family, Form] = {
    "openai": Form(openai.ErrorAnswer, openai_errors.render),
    "anthropic": Form(anthropic.ErrorAnswer, anthropic_errors.render),
    "ollama": Form(ollama.ErrorAnswer, native_errors.render),
    "plain": Form(plain.ErrorAnswer, plain_dialect.render_error),
}


def name(family: Family, status: int) -> str:
    """Of the component that describes them."""
    return f"{family.title()}Error{status}"


@cache
def by_status(family: Family) -> dict[int, dict[str, type[GatewayError]]]:
    """The errors of a family: status, code, the first class with both."""
    found: dict[int, dict[str, type[GatewayError]]] = {}
    for error in errors.every_error():
        if error not in UNSENT:
            status, _ = FORMS[family].render(error(), REQUEST_ID)
            found.setdefault(status, {}).setdefault(error.code, error)
    return found


def described(family: Family, status: int, schema: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    """The response of that status, with each code's meaning, and its body as an example."""
    kinds = by_status(family)[status]
    examples = {code: {"value": msgspec.json.decode(_body(family, error))} for code, error in kinds.items()}
    return {
        "description": "\n\n".join(f"`{code}`: {error().message}" for code, error in kinds.items()),
        "headers": headers,
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def _body(family: Family, error: type[GatewayError]) -> bytes:
    return FORMS[family].render(error(), REQUEST_ID)[1]
