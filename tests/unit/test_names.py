"""One spelling for each model, whatever Ollama would take (ollama-http section 2.0)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.names import NAME_CHARS_MAX, canonical, is_cloud, registry, spelled

PIECES = ["full", "FULL", "library", "registry.ollama.ai", "http://", "https://", "/", ":", ":latest", ":local", ":7b"]
NAMES = st.text() | st.lists(st.sampled_from([*PIECES, ".", "-", "_", "host:5000", "-cloud", " "])).map("".join)


@pytest.mark.parametrize(
    "name",
    [
        "full",
        "full:latest",
        "FULL:latest",
        "Full:LATEST",
        "  full \n",
        "full:",
        "library/full",
        "Library/full:latest",
        "registry.ollama.ai/full",
        "registry.ollama.ai/library/full",
        "REGISTRY.OLLAMA.AI/library/full:latest",
        "https://registry.ollama.ai/library/full",
        "http://registry.ollama.ai/library/full",
        "full:local",
        "full:latest:local",
        "library/full:local",
        "https://registry.ollama.ai/library/FULL:latest:local",
    ],
)
def test_every_alias_is_the_same_model(name: str) -> None:
    assert canonical(name) == "full:latest"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("llama3.2:3b", "llama3.2:3b"),
        ("me/Model", "me/model:latest"),
        ("host.example:5000/me/model:q4_K_M", "host.example:5000/me/model:q4_k_m"),
        ("hf.co/bartowski/Llama-3.2-GGUF:IQ4", "hf.co/bartowski/llama-3.2-gguf:iq4"),
    ],
)
def test_other_models_keep_their_registry_their_namespace_and_their_tag(name: str, meant: str) -> None:
    assert canonical(name) == meant


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ":latest",
        "/",
        "a//b",
        "/a",
        "a/",
        "a/b/c/d",
        "a:b:c",
        "a b",
        "a\0",
        "ä",
        "-a",
        "../a",
        "a?b",
        "a" * 201,
        "hf.co/llama",  # a host stands before a namespace: Ollama takes three parts, or two without one
        "evil.com/x",
        "evil.com:80/x",
        "https://evil.com/x",
        "a:b/c",
        "registry.ollama.ai/evil.com/x",
        "registry.ollama.ai/evil.com:80/x",
        "hf.co/evil.com:80/x",
        "hf.co/us.er/x",
    ],
)
def test_what_cannot_be_a_model_is_none(name: str) -> None:
    assert canonical(name) is None


@given(NAMES)
@example("registry.ollama.ai/registry.ollama.ai/full")
@example("full:local:local")
@example("a" * NAME_CHARS_MAX)
def test_the_canonical_spelling_is_its_own(name: str) -> None:
    once = canonical(name)
    assert once is None or canonical(once) == once


@given(NAMES)
def test_case_and_spaces_around_never_matter(name: str) -> None:
    if name.isascii():
        assert canonical(f" {name.upper()}\t") == canonical(name)


@pytest.mark.parametrize(
    ("name", "cloud"),
    [
        ("gpt-oss:cloud", True),
        ("gpt-oss:120b-cloud", True),
        ("GPT-OSS:120B-CLOUD", True),
        ("me/x:cloud:local", True),
        ("cloud", False),
        ("my-cloud", False),
        ("cloud/full:latest", False),
        ("full:cloudy", False),
    ],
)
def test_names_that_would_leave_the_site_are_known(name: str, cloud: bool) -> None:
    assert is_cloud(canonical(name) or "") is cloud


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("llama3.2", "registry.ollama.ai"),
        ("REGISTRY.ollama.ai/library/llama3.2", "registry.ollama.ai"),
        ("registry.ollama.ai/me/llama3.2", "registry.ollama.ai"),
        ("HF.co/unsloth/Llama:Q4", "hf.co"),
        ("https://hf.co/unsloth/llama", "hf.co"),
        ("http://127.0.0.1:6379/library/llama", "127.0.0.1:6379"),
    ],
)
def test_the_registry_is_the_host_that_ollama_would_ask(name: str, host: str) -> None:
    found = canonical(name)
    assert found is not None
    assert registry(found) == host


def test_a_name_to_pull_keeps_its_case_and_loses_its_scheme() -> None:
    assert spelled(" HTTP://hf.co/Unsloth/Llama:Q4_K_M ") == "hf.co/Unsloth/Llama:Q4_K_M"
    assert spelled("https://http://hf.co/a/b") == "hf.co/a/b"
    assert spelled("Llama3.2") == "Llama3.2"
