"""OpenAI's embeddings: texts as the hub has them, vectors in both of OpenAI's forms."""

import base64
import struct
from typing import Any

import msgspec
import pytest

from gateway.dialects import ollama, ollama_faults
from gateway.dialects.asked import Asked, Dialect
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai.embeddings import parse
from gateway.dialects.policy import INPUTS_MAX
from gateway.errors import BackendFault, BadRequest, ContextExceeded, Draining, GatewayError, StreamBroken
from gateway.web.body import decoded
from tests import exchanges

EMBEDDINGS = Dialect("openai", parse, openai_errors.render)


def asked_for(**fields: Any) -> Asked:
    return decoded(msgspec.json.encode({"model": "m", "input": "a"} | fields), EMBEDDINGS.parse)


def upstream(**fields: Any) -> Any:
    asked = asked_for(**fields)
    assert (asked.upstream.path, asked.output_tokens_max, asked.streamed) == ("/api/embed", 0, False)
    body = msgspec.json.decode(asked.upstream.encode(model="m", stream=False, output_tokens_max=0, thinks=True))
    del body["model"]
    return body


PASSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"input": ["a", "b"]}, {"input": ["a", "b"]}),
    ({"dimensions": 64}, {"dimensions": 64}),
    ({"truncate": True}, {"truncate": True}),
    ({"keep_alive": "1m", "options": {"num_ctx": 512}}, {"keep_alive": 60.0, "options": {"num_ctx": 512}}),
    ({"think": True, "encoding_format": "base64", "user": "me"}, {}),
    (dict.fromkeys(["dimensions", "encoding_format", "user", "truncate", "keep_alive", "options"]), {}),
]


@pytest.mark.parametrize(("fields", "found"), PASSED)
def test_each_field_goes_where_the_hub_has_it(fields: dict[str, Any], found: dict[str, Any]) -> None:
    """A text that is too long is an error unless the client wants it cut."""
    assert upstream(**fields) == {"input": ["a"], "options": {}, "truncate": False} | found


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": ""}, "invalid_request", "input"),
    ({"input": []}, "invalid_request", "input"),
    ({"input": ["a", ""]}, "invalid_request", "input"),
    ({"input": ["a"] * (INPUTS_MAX + 1)}, "invalid_request", "input"),
    ({"input": None}, "invalid_request", "input"),
    ({"input": {"text": "a"}}, "invalid_request", "input"),
    ({"input": [1, 2]}, "unsupported", "input"),
    ({"input": [[1, 2], [3]]}, "unsupported", "input"),
    ({"input": ["a", 1]}, "unsupported", "input"),
    ({"dimensions": 0}, "invalid_request", "dimensions"),
    ({"encoding_format": "float64"}, "invalid_request", "encoding_format"),
    ({"model": ""}, "invalid_request", "model"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
def test_the_rest_is_refused(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        asked_for(**fields)
    assert (refused.value.code, refused.value.param) == (code, param)


def answer(body: bytes, **fields: Any) -> Any:
    reply = ollama.read_whole(body)
    return msgspec.json.decode(asked_for(**fields).renderer("id", 1).whole(reply, reply.counts()))


def recorded(name: str) -> Any:
    (found,) = [one for one in exchanges.recorded("C", "F") if one["name"] == name]
    return found


def test_the_answer_is_what_ollamas_own_layer_gives() -> None:
    native, openai = recorded("embed"), recorded("oai-embed")
    given = answer(native["response"]["body"].encode(), model="nomic-embed-text", input=["first", "second"])
    assert given == msgspec.json.decode(openai["response"]["body"])


def test_base64_is_what_ollamas_own_layer_gives() -> None:
    vector = msgspec.json.decode(recorded("embed")["response"]["body"])["embeddings"][0]
    given = answer(msgspec.json.encode({"embeddings": [vector]}), encoding_format="base64")["data"][0]["embedding"]
    assert given == msgspec.json.decode(recorded("oai-embed-b64")["response"]["body"])["data"][0]["embedding"]
    assert list(struct.unpack("<3f", base64.b64decode(given))) == pytest.approx(vector)


def test_numbers_pass_as_the_model_wrote_them() -> None:
    reply = ollama.read_whole(b'{"embeddings":[[1e-7,-0.10000000149011612]]}')
    assert b'"embedding":[1e-7,-0.10000000149011612]' in asked_for().renderer("id", 1).whole(reply, reply.counts())


@pytest.mark.parametrize("body", [b'{"embeddings":[]}', b'{"embeddings":[[1],[2]]}', b'{"done":true}'])
def test_there_is_one_vector_for_each_input_or_the_answer_is_broken(body: bytes) -> None:
    with pytest.raises(StreamBroken):
        answer(body)


@pytest.mark.parametrize("vector", [b"null", b'["a"]', b"[1e300]", b"{}"])
def test_what_is_no_vector_of_float32_is_a_broken_answer(vector: bytes) -> None:
    with pytest.raises(StreamBroken):
        answer(b'{"embeddings":[' + vector + b"]}", encoding_format="base64")


def test_an_error_has_openais_form() -> None:
    assert msgspec.json.decode(asked_for().renderer("id", 1).error(Draining()))["error"]["code"] == "draining"


FAULTS: list[tuple[int, str, type[GatewayError], bool]] = [
    (400, "the input length exceeds the context length", ContextExceeded, False),
    (500, "the input length exceeds the context length", ContextExceeded, False),
    (400, 'do embedding request: Post "http://127.0.0.1:33967/embedding": EOF', BackendFault, True),
    (400, "failed to encode response: json: unsupported value: NaN", BackendFault, True),
    (400, "model runner has unexpectedly stopped, this may be due to resource limitations", BackendFault, True),
    (400, "invalid input type", BadRequest, False),
    (400, '"m" does not support embeddings', BadRequest, False),
]


@pytest.mark.parametrize(("status", "text", "kind", "elsewhere"), FAULTS)
def test_a_refusal_blames_the_client_or_the_node(
    status: int, text: str, kind: type[GatewayError], elsewhere: bool
) -> None:
    """/api/embed says 400 for what befell its runner too."""
    error = ollama_faults.fault(status, msgspec.json.encode({"error": text}))
    assert (type(error), error.elsewhere) == (kind, elsewhere)
