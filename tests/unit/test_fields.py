"""What README says becomes of each field of a request is true: each is tried, alone, with an example."""

from typing import Any

import msgspec
import pytest

from gateway.dialects.asked import Asked
from gateway.dialects.ollama import Function, Message, Reply, ToolCall
from gateway.errors import GatewayError
from tests.fields import Field, Surface, surfaces

CASES = [(surface, field) for surface in surfaces() for field in surface.fields]
NAMES = [f"{surface.route} {field.name}" for surface, field in CASES]

LINE = Reply(message=Message(content="a", thinking="t"), logprobs=[{"token": "a", "logprob": -1.0, "top_logprobs": []}])
CALLS = [ToolCall(Function("f", msgspec.Raw(b'{"x":1}'))), ToolCall(Function("g"))]
LAST = Reply(message=Message(content="b", tool_calls=CALLS), done=True, done_reason="stop", eval_count=3)
VECTORS = Reply(embeddings=[msgspec.Raw(b"[0.5,0.25]")], prompt_eval_count=1)


def _parsed(surface: Surface, body: dict[str, Any]) -> Asked:
    return surface.parse(msgspec.json.encode({name: value for name, value in body.items() if value is not ...}))


def _upstream(asked: Asked) -> dict[str, Any]:
    sent = asked.upstream.encode(model="m", stream=True, output_tokens_max=99, thinks=True)
    body: dict[str, Any] = msgspec.json.decode(sent)
    return body


def _answer(asked: Asked) -> Any:
    """All that a client could see of a small answer."""
    if "embed" in asked.upstream.path:
        return asked.renderer("id", 1).whole(VECTORS, VECTORS.counts())
    whole, stream = asked.renderer("id", 1), asked.renderer("id", 1)
    return whole.whole(LAST, LAST.counts()), stream.feed(LINE) + stream.last(LAST, LAST.counts())


def _is_in(value: Any, sent: Any) -> bool:
    """Whether a value went upstream as it came; of an object, its fields, for there may be others of ours."""
    if isinstance(value, dict) and isinstance(sent, dict):
        return value.items() <= sent.items()
    return bool(value == sent)


def _everything(asked: Asked) -> Any:
    about = (asked.model, asked.streamed, asked.collected, asked.output_tokens_max, asked.end_user)
    return about, _upstream(asked), _answer(asked)


@pytest.mark.parametrize(("surface", "field"), CASES, ids=NAMES)
def test_a_field_has_the_fate_that_is_listed(surface: Surface, field: Field) -> None:
    without = {name: value for name, value in (surface.body | field.base).items() if name != field.name}
    body = surface.body | field.base | {field.name: field.value}
    if field.fate == "refused":
        with pytest.raises(GatewayError) as refused:
            _parsed(surface, body)
        assert (refused.value.code, refused.value.param) == (field.code, field.name)
        return
    asked = _parsed(surface, body)
    if field.fate == "passed":
        sent = _upstream(asked)
        assert any(_is_in(field.value, place.get(field.name)) for place in (sent, sent["options"]))
        return
    try:
        plain: Any = _everything(_parsed(surface, without))
    except (msgspec.ValidationError, GatewayError):
        assert field.name in surface.body  # it is required: that is its effect
        return
    assert (_everything(asked) == plain) == (field.fate == "ignored")


@pytest.mark.parametrize("surface", surfaces(), ids=lambda surface: surface.route)
def test_every_field_that_the_client_library_has_is_listed_once(surface: Surface) -> None:
    names = [field.name for field in surface.fields]
    assert len(names) == len(set(names))
    assert surface.known <= set(names)


@pytest.mark.parametrize("surface", surfaces(), ids=lambda surface: surface.route)
def test_null_is_as_good_as_nothing(surface: Surface) -> None:
    """Clients send null for what their user left out."""
    for field in surface.fields:
        if field.name not in surface.body and field.fate != "refused":
            _parsed(surface, surface.body | field.base | {field.name: None})
