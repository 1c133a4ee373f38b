"""Names of the operator's for models: which model answers, with which options, and how they are listed."""

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from gateway.core import aliases
from gateway.core.call import Call
from gateway.core.catalogue import ModelCard
from gateway.core.fleet import Alias
from gateway.core.keys import Credential
from gateway.core.routing import Model
from gateway.dialects.native import embed
from gateway.dialects.ollama import ChatRequest
from gateway.dialects.openai import chat
from gateway.dialects.policy import Policy
from gateway.errors import ContextNotAllowed
from gateway.web import intent
from gateway.web.intent import Meant, Origin

POLICY = Policy(context_tokens_max=8_192, keep_alive_s_max=60, output_tokens_max=1_000)


def alias(*targets: str, name: str = "fast:latest", **fields: Any) -> Alias:
    return Alias(name=name, targets=targets, **fields)


def card(name: str) -> ModelCard:
    return ModelCard(name, Model(spelling=name), 1)


@pytest.mark.parametrize(
    ("there", "answers"), [(("a", "b"), "a"), (("b", "c"), "b"), (("c",), "c"), ((), "a")], ids=str
)
def test_the_first_that_can_be_served_answers_and_else_the_first(there: tuple[str, ...], answers: str) -> None:
    one = alias("a", "b", "c")
    assert aliases.target(one, lambda model: "" if model in there else "no_backend") == answers


def test_an_alias_is_listed_as_its_model_where_that_is_listed_and_wins_over_a_model_of_its_name() -> None:
    cards = [card("a"), card("b"), card("taken")]
    known = [alias("b", name="x"), alias("none", name="y"), alias("a", name="taken"), alias("none", "b", name="a")]
    found = aliases.listed(cards, known, lambda model: "" if model != "none" else "model_not_found")
    assert [(one.name, one.copy.spelling) for one in found] == [("a", "b"), ("b", "b"), ("taken", "a"), ("x", "b")]


def meant(body: dict[str, Any], said: Alias | None, parse: Any = chat.parse) -> Call:
    asked = parse(msgspec.json.encode(body))
    origin = Origin(id="1", credential=Credential("key", ()), source="", endpoint="/x", began_ms=0)
    return intent.call(POLICY, origin, asked, Meant("a", said))


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "fast", "messages": [{"role": "user", "content": "hi"}], **fields}


def test_what_the_operator_says_wins_over_the_client_and_the_rest_is_the_clients() -> None:
    asked = body(temperature=1.5, top_p=0.5, options={"top_k": 7})
    call = meant(asked, alias("a", options={"temperature": 0.25, "stop": ["x"], "unknown": 1}))
    assert isinstance(call.upstream, ChatRequest)
    said = call.upstream.options
    assert (said.temperature, said.top_p, said.top_k, said.stop, said.num_ctx) == (0.25, 0.5, 7, ["x"], UNSET)
    assert call.model == "a"
    plain = meant(asked, None)
    assert isinstance(plain.upstream, ChatRequest) and plain.upstream.options.temperature == 1.5


@pytest.mark.parametrize("wanted", [{}, {"options": {"num_ctx": 1_024}}, {"options": {"num_ctx": 10**6}}])
def test_a_pinned_context_counts_whatever_is_asked_and_allowed(wanted: dict[str, Any]) -> None:
    assert meant(body(**wanted), alias("a", context_tokens=65_536)).upstream.context_tokens == 65_536


def test_without_a_pin_the_bound_of_contexts_stays() -> None:
    with pytest.raises(ContextNotAllowed):
        meant(body(options={"num_ctx": 8_193}), alias("a", options={"seed": 1}))


@pytest.mark.parametrize(("said", "tokens"), [(50, 50), (5_000, 1_000), (-1, 1_000), (0, 1_000)])
def test_the_operators_length_of_answers_is_what_is_reserved(said: int, tokens: int) -> None:
    call = meant(body(max_tokens=20), alias("a", options={"num_predict": said}))
    assert call.estimate.output_max == tokens


def test_an_embedding_has_no_answer_to_be_long() -> None:
    call = meant({"model": "fast", "input": ["x"]}, alias("a", options={"num_predict": 50}), embed.parse)
    assert call.estimate.output_max == 0
