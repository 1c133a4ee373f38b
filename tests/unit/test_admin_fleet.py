"""The pure parts of the admin API of nodes and aliases: URLs, certificates, options, how a node is said to stand."""

from typing import Any

import certifi
import msgspec
import pytest

from gateway.core import fleet, node_url
from gateway.core.breaker import Breaker
from gateway.core.fleet import Alias, Node
from gateway.core.routing import WHOLE_NODE, Backend, Loaded, Model
from gateway.dialects import ollama
from gateway.errors import BadRequest
from gateway.web.admin import aliases, backend_fields, backend_views
from gateway.web.admin.aliases import ChangeAlias
from gateway.web.admin.backend_fields import ChangeBackend, CreateBackend
from gateway.web.admin.backend_views import BackendView

NOW_MS = 1_000_000
CERTIFICATE = certifi.contents().partition("-----END CERTIFICATE-----")
PEM = CERTIFICATE[0][CERTIFICATE[0].index("-----BEGIN") :] + CERTIFICATE[1] + "\n"
HTTPS = Node(name="n", url="https://n")


def made(**fields: Any) -> Node:
    return backend_fields.made(msgspec.json.decode(msgspec.json.encode(fields), type=CreateBackend))


def changed(node: Node, **fields: Any) -> Node:
    return backend_fields.changed(node, msgspec.json.decode(msgspec.json.encode(fields), type=ChangeBackend))


@pytest.mark.parametrize(
    ("given", "url", "name"),
    [
        ("http://gpu-1:11434", "http://gpu-1:11434", "gpu-1:11434"),
        (" HTTPS://GPU-1.Example.org/ ", "https://gpu-1.example.org", "gpu-1.example.org"),
        ("http://10.0.0.1:11434///", "http://10.0.0.1:11434", "10.0.0.1:11434"),
        ("https://proxy/Nodes/7/", "https://proxy/Nodes/7", "proxy"),
        ("http://[::1]:11434", "http://[::1]:11434", "[::1]:11434"),
    ],
)
def test_a_url_has_one_spelling_and_gives_a_name(given: str, url: str, name: str) -> None:
    node = made(url=given)
    assert (node.url, node.name) == (url, name)
    assert node_url.checked(node.url) == node.url


@pytest.mark.parametrize(
    "url",
    [
        "gpu-1:11434",
        "ftp://gpu-1",
        "file:///etc/passwd",
        "unix:///run/ollama",
        "http://",
        "http://256.0.0.1:11434",
        "http:///path",
        "http://:11434",
        "http://gpu-1:",
        "http://gpu-1:0",
        "http://gpu-1:70000",
        "http://gpu-1:x",
        "http://me:secret@gpu-1",
        "http://secret@gpu-1",
        "http://@gpu-1",
        "http://gpu-1/?secret=1",
        "http://gpu-1?",
        "http://gpu-1/#secret",
        "http://gpu-1/a/../b",
        "http://gpu-1/./b",
        "http://gpu-1//b",
        "http://gpu-1/%2e%2e",
        "http://gpu 1",
        "http://gpu-1\\@other",
        "http://gpu-1\n/secret",
        "http://gpü",
        "http://gpu_1;x",
        "http://[::1",
        "http://[v1.x]",
        "http://-",
        f"http://gpu-1/{'x' * fleet.URL_CHARS_MAX}",
    ],
)
def test_what_is_no_url_of_a_node_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadRequest) as error:
        made(url=url) if len(url) <= fleet.URL_CHARS_MAX else backend_fields.made(CreateBackend(url=url))
    assert error.value.param == "url"
    assert "secret" not in error.value.message


def test_a_name_may_be_given() -> None:
    assert made(url="http://a", name="rack-3.gpu:1").name == "rack-3.gpu:1"
    for bad in ("a/b", "a b", ".", "..", "-a", "ä", "a\n"):
        with pytest.raises(BadRequest) as error:
            made(url="http://a", name=bad)
        assert error.value.param == "name"


def test_what_is_given_is_changed_and_null_removes_a_secret() -> None:
    node = made(url="https://a", slots=8, weight=5, draining=True, tags=["x", "y", "x"], bearer="b", ca_pem=PEM)
    assert (node.slots, node.weight, node.draining, node.tags, node.bearer) == (8, 5, True, ("x", "y"), "b")
    assert node.ca_pem == PEM
    assert changed(node) == node
    bare = changed(node, bearer=None, ca_pem=None, tags=[], draining=False)
    assert (bare.bearer, bare.ca_pem, bare.tags, bare.draining, bare.slots) == ("", "", (), False, 8)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bearer", "two words"),
        ("bearer", "line\n"),
        ("bearer", "ü"),
        ("ca_pem", "nothing of the kind"),
        ("ca_pem", PEM[:200]),
        ("ca_pem", PEM + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ("tags", ["two words"]),
        ("tags", ["\u202e"]),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as error:
        changed(HTTPS, **{field: value})
    assert error.value.param == field
    assert str(value) not in error.value.message


def test_certificates_are_for_https_alone() -> None:
    with pytest.raises(BadRequest, match="https://"):
        made(url="http://a", ca_pem=PEM)


@pytest.mark.parametrize(
    "body",
    [
        {"slots": 0},
        {"slots": fleet.SLOTS_MAX + 1},
        {"slots": None},
        {"weight": 0},
        {"weight": fleet.WEIGHT_MAX + 1},
        {"bearer": ""},
        {"bearer": "x" * (fleet.BEARER_CHARS_MAX + 1)},
        {"ca_pem": "x" * (fleet.CA_CHARS_MAX + 1)},
        {"tags": ["x" * (fleet.TAG_CHARS_MAX + 1)]},
        {"tags": ["x"] * (fleet.TAGS_MAX + 1)},
        {"tags": [""]},
        {"url": "http://b"},
        {"name": "b"},
        {"drain": True},
    ],
)
def test_bounds_and_unknown_fields_are_kept(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        changed(HTTPS, **body)


def retargeted(alias: Alias, **fields: Any) -> Alias:
    return aliases._retargeted(alias, msgspec.json.decode(msgspec.json.encode(fields), type=ChangeAlias))


def test_an_alias_pins_options_in_ollamas_own_form() -> None:
    alias = Alias(name="fast:latest", targets=("m:latest",), options={"seed": 1}, context_tokens=5)
    assert retargeted(alias) == alias
    assert retargeted(alias, targets=["Llama3.2:3b", "library/llama3.2:3b"]).targets == ("llama3.2:3b",)
    given = {"top_k": 40.0, "temperature": 0, "stop": "END", "seed": None}
    assert retargeted(alias, options=given).options == {"top_k": 40, "temperature": 0, "stop": ["END"]}
    assert retargeted(alias, options={}).options == {}
    assert retargeted(alias, context_tokens=None).context_tokens is None
    assert set(aliases.OPTION_NAMES) == set(ollama.Options.__struct_fields__) - {"num_ctx"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"options": {"num_ctx": 5}}, "options"),
        ({"options": {"num_gpu": 5}}, "options"),
        ({"options": {"Temperature": 5}}, "options"),
        ({"options": {"temperature": "hot"}}, "options"),
        ({"options": {"stop": [1]}}, "options"),
        ({"options": {"top_k": 1.5}}, "options.top_k"),
        ({"options": {"stop": ["x" * fleet.OPTIONS_CHARS_MAX]}}, "options"),
        ({"targets": ["a b"]}, "targets"),
        ({"targets": ["llama*"]}, "targets"),
    ],
)
def test_what_an_alias_cannot_pin_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as error:
        retargeted(Alias(name="fast:latest", targets=("m:latest",)), **fields)
    assert error.value.param is not None and error.value.param.startswith(param)


SEEN = Backend(
    name="n",
    url=HTTPS.url,
    healthy=True,
    models={"a:latest": Model(spelling="a"), "b:latest": Model(spelling="b")},
    loaded={"b:latest": Loaded()},
    version="0.34.2",
    slots=4,
    busy=2,
    loading="a:latest",
)


def view(node: Node = HTTPS, seen: Backend | None = SEEN, **breakers: Breaker) -> BackendView:
    named = {WHOLE_NODE if name == "whole" else f"{name}:latest": one for name, one in breakers.items()}
    return backend_views.view(node, seen, named, False, NOW_MS)


def test_a_node_is_shown_as_it_was_last_seen() -> None:
    found = view(msgspec.structs.replace(HTTPS, bearer="hidden", ca_pem="hidden too", slots=9))
    assert (found.source, found.state, found.busy, found.slots, found.loading) == ("admin", "up", 2, 9, "a:latest")
    assert (found.models, found.loaded, found.version, found.warnings) == (2, ["b:latest"], "0.34.2", [])
    assert (found.has_bearer, found.has_ca) == (True, True)
    assert b"hidden" not in msgspec.json.encode(found)
    old = view(seen=msgspec.structs.replace(SEEN, version="0.1.20"))
    assert any("CVE-2024-37032" in line for line in old.warnings)


def test_a_state_is_what_keeps_calls_away() -> None:
    draining = msgspec.structs.replace(HTTPS, draining=True)
    out = Breaker(failures=3, ejections=2, until_ms=NOW_MS + 8_001)
    assert view(seen=None).state == "new"
    assert view(seen=msgspec.structs.replace(SEEN, healthy=False)).state == "down"
    assert view(draining, seen=msgspec.structs.replace(SEEN, healthy=False)).state == "down"
    assert view(seen=msgspec.structs.replace(SEEN, refused=True)).state == "refused"
    assert view(draining).state == "draining"
    assert view(whole=out).state == "ejected"
    one_model = view(a=out, b=Breaker(failures=2))
    assert one_model.state == "up"
    (ejected,) = one_model.ejected
    assert (ejected.model, ejected.seconds, ejected.failures, ejected.ejections) == ("a:latest", 9, 3, 2)
    (due,) = view(whole=msgspec.structs.replace(out, until_ms=1)).ejected
    assert due.seconds == 0
