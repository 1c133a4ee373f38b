"""What clients are told of a model, and what never."""

import json

import pytest

from gateway.core.routing import Details, Model
from gateway.dialects.native import show as native_show

SAID = {
    "license": "MIT",
    "modelfile": "FROM /root/.ollama/models/blobs/sha256-aa\nADAPTER /root/adapter.gguf\nSYSTEM secret",
    "parameters": "temperature 0.6",
    "template": "{{ .Prompt }}",
    "system": "secret",
    "messages": [{"role": "user", "content": "secret"}],
    "details": {"parent_model": "/root/.ollama/models/blobs/sha256-bb"},
    "model_info": {
        "general.architecture": "qwen3",
        "qwen3.context_length": 40960,
        "qwen3.embedding_length": True,
        "tokenizer.ggml.tokens": None,
        "quantize.imatrix.file": "/root/imatrix.gguf",
        "general.name": "Qwen",
        "a.windows": "C:\\models\\x.gguf",
        "a.share": "\\\\nas\\x",
        "a.home": "~/x",
        "a.url": "file:///root/x",
    },
    "projector_info": {"general.file": "/root/mmproj"},
    "tensors": [{"name": "x"}],
    "capabilities": ["completion"],
    "remote_host": "https://secret.example",
}
MODEL = Model("Qwen", modified_at="2026-08-21T10:00:00Z", details=Details(family="qwen3"))


def test_no_path_no_system_text_and_no_host_is_told() -> None:
    shown = native_show.read(json.dumps(SAID).encode())
    answer = native_show.answer("qwen3:8b", MODEL, shown)
    text = native_show.msgspec.json.encode(answer).decode()
    for word in ("/root", "secret", "models\\\\x", "nas", "~/", "file:"):
        assert word not in text
    said = json.loads(text)
    assert said["modelfile"] == "FROM qwen3:8b\n"
    assert set(said["model_info"]) == {
        "general.architecture", "qwen3.context_length", "qwen3.embedding_length", "tokenizer.ggml.tokens",
        "general.name",
    }  # fmt: skip
    assert (said["license"], said["parameters"], said["template"]) == ("MIT", "temperature 0.6", "{{ .Prompt }}")
    assert (said["modified_at"], said["capabilities"]) == ("2026-08-21T10:00:00Z", ["completion"])
    assert (shown.length("context"), shown.length("embedding"), shown.length("other")) == (40960, 0, 0)


@pytest.mark.parametrize("said", [b"{}", b'{"license":null,"model_info":null,"capabilities":null}'])
def test_a_node_may_say_little(said: bytes) -> None:
    shown = native_show.read(said)
    assert shown.length("context") == 0
    answer = native_show.answer("m:latest", MODEL, shown)
    assert (answer.template, answer.model_info, answer.capabilities) == ("", {}, [])
