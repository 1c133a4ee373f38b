"""Odd entries in what nodes say of their models: they count as far as they can be read, and take no other away."""

from typing import Any

import msgspec
import pytest

from gateway.core.routing import Details
from tests.probed import TAG, Fleet

ODD = [
    {"size": None},
    {"size": 1.5},
    {"size": -1},
    {"size": 2**70},
    {"digest": None},
    {"digest": 5},
    {"modified_at": None},
    {"modified_at": "yesterday"},
    {"capabilities": "x"},
    {"capabilities": [5]},
    {"details": "x"},
    {"details": {"families": "x"}},
    {"details": {"families": [None], "family": None, "context_length": "8k", "embedding_length": 1.5}},
    {"remote_host": None},
    {"expires_at": None, "size_vram": None, "context_length": None},
    {"expires_at": 5, "size_vram": 1.5, "context_length": "8k"},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("path", ["/api/tags", "/api/ps"])
async def test_an_odd_entry_counts_as_far_as_it_can_be_read(path: str, odd: dict[str, Any]) -> None:
    fleet = Fleet()
    fleet.node.said["/api/ps"] = {"models": [TAG | {"context_length": 8192}]}
    await fleet.probe()
    fleet.node.said[path] = {"models": [TAG | {"name": "odd:1b"} | odd, TAG | {"context_length": 8192}]}
    for _ in range(2):
        seen = await fleet.probe()
    assert seen.healthy
    found = seen.models if path == "/api/tags" else seen.loaded
    assert set(found) == {"odd:1b", "qwen3:8b"}
    assert msgspec.json.encode(found["odd:1b"])
    assert seen.models["qwen3:8b"].size_bytes == seen.loaded["qwen3:8b"].size_bytes == 5
    if path == "/api/tags" and "details" not in odd:
        assert seen.models["odd:1b"].details.family == "qwen3", "one odd field is not all of it"


@pytest.mark.parametrize("odd", [{}, {"name": None}, {"name": 5}, {"size": 1}, 5, None, [], "qwen3:8b"], ids=str)
async def test_an_entry_without_a_name_takes_no_other_away(odd: Any) -> None:
    fleet = Fleet()
    fleet.node.said |= {"/api/tags": {"models": [odd, TAG]}, "/api/ps": {"models": [odd, TAG]}}
    seen = await fleet.probe()
    assert (seen.healthy, list(seen.models), list(seen.loaded)) == (True, ["qwen3:8b"], ["qwen3:8b"])


@pytest.mark.parametrize(
    "parent", ["/root/x", "C:\\x", "c:/models/x", "C:/x", "file:/x/y", "./models/x", "~/x", None, 5]
)
async def test_a_parent_that_is_a_file_is_not_told(parent: Any) -> None:
    fleet = Fleet()
    fleet.node.said["/api/tags"] = {"models": [TAG | {"details": {"family": "f", "parent_model": parent}}]}
    assert (await fleet.probe()).models["qwen3:8b"].details == Details(family="f", context_length=40960)


@pytest.mark.parametrize("parent", ["llama3.2:3b", "hf.co/user/model:q4"])
async def test_a_parent_that_is_a_model_is_told(parent: str) -> None:
    fleet = Fleet()
    fleet.node.said["/api/tags"] = {"models": [TAG | {"details": {"parent_model": parent}}]}
    assert (await fleet.probe()).models["qwen3:8b"].details.parent_model == parent
