"""What clients are told of a model, and what never."""

import json
from itertools import product

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


PATHS = [
    "/root/.ollama/models/blobs/sha256-aa",
    "/root",
    "/data/m.gguf",
    "./models/x",
    "../x",
    ".\\models\\x",
    "~/x",
    "~me/x",
    "$HOME/x",
    "C:\\models\\x.gguf",
    "c:/models/x",
    "FILE:///Root/x",
    "file:/x",
    "\\\\nas\\share",
    "//nas/share/x",
    "/ROOT/x",
]
AROUND = ["{}", "made from {}", "a={}", '"{}"', "('{}')", "[{}]", "x\n{}\ny", "https://ollama.com/a,{}", "see:{}, ok"]
ORDINARY = [
    "</think>",
    "[/INST]",
    "<</SYS>>",
    "<|/im_end|>",
    "n/a",
    "qwen3:8b",
    "Qwen/Qwen3-8B",
    "hf.co/user/model:q4",
    "https://huggingface.co/Qwen/Qwen3-8B/blob/main/LICENSE",
    "HTTP://example.org:80/a/b?c=/d",
    "a ratio of 1/2, 3 / 4 and tokens/s",
    "...",
    "Q:",
    "2026-08-21T10:00:00Z",
]


@pytest.mark.parametrize(("around", "path"), [pair for pair in product(AROUND, PATHS) if pair != ("[{}]", "/root")])
def test_a_path_passes_in_no_form_and_at_no_depth(path: str, around: str) -> None:
    text = around.replace("{}", path)
    info = {"a": text, "b": [1, text, {"c": text, "d": [text, "kept"], "e": 2}], "f": {"g": {"h": [[text]]}}, path: 1}
    said = {"model_info": info, "parameters": f'top_k 5\nadapter {text}\r\nstop "</think>"\n'}
    shown = native_show.read(json.dumps(said).encode())
    assert shown.model_info == {"b": [1, {"d": ["kept"], "e": 2}], "f": {"g": {"h": [[]]}}}
    assert path not in shown.parameters
    assert shown.parameters.startswith("top_k 5\n")
    assert shown.parameters.endswith('stop "</think>"\n')


@pytest.mark.parametrize("text", ORDINARY)
def test_what_is_no_path_passes(text: str) -> None:
    said = {"license": text, "parameters": f'stop "{text}"', "template": text, "model_info": {"a": [text], text: text}}
    shown = native_show.read(json.dumps(said).encode())
    assert (shown.license, shown.template, shown.parameters) == (text, text, f'stop "{text}"')
    assert shown.model_info == {"a": [text], text: text}


@pytest.mark.parametrize("stop", ["\\n", "Q:\\n", ".\\n", "\\nUser:", "\\t"])
def test_escapes_in_parameters_are_no_paths(stop: str) -> None:
    line = f'stop    "{stop}"'
    assert native_show.read(json.dumps({"parameters": line}).encode()).parameters == line


@pytest.mark.parametrize(
    "path", [*(path for path in PATHS if path != "/root"), "/a b/my model.gguf", "C:\\My Files\\x"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_template_loses_the_lines_that_are_only_a_path(path: str, end: str) -> None:
    kept = ["{{ .System }}", "</think>", "/no_think", "{{ if .X }}/a/b{{ end }}", "Look at /etc/hosts for more.", ""]
    template = end.join([kept[0], f"  {path} ", *kept[1:]])
    shown = native_show.read(json.dumps({"template": template}).encode())
    assert shown.template == end.join(kept)


def test_licences_keep_their_addresses() -> None:
    text = "Apache License\nhttp://www.apache.org/licenses/\nand/or its affiliates"
    assert native_show.read(json.dumps({"license": text}).encode()).license == text


@pytest.mark.parametrize("said", [b"{}", b'{"license":null,"model_info":null,"capabilities":null}'])
def test_a_node_may_say_little(said: bytes) -> None:
    shown = native_show.read(said)
    assert shown.length("context") == 0
    answer = native_show.answer("m:latest", MODEL, shown)
    assert (answer.template, answer.model_info, answer.capabilities) == ("", {}, [])
