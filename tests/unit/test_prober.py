"""What the prober makes of nodes' answers, good and bad. The nodes are functions behind httpx's own test transport."""

import json
from collections import Counter
from typing import Any, cast

import httpx
import msgspec
import pytest

from gateway.backends.client import OllamaClient
from gateway.backends.library import Library
from gateway.backends.pool import Pool
from gateway.backends.prober import Prober
from gateway.backends.shows import Shows
from gateway.core.routing import Backend, Details
from gateway.errors import BackendFault

NAME, URL = "node:11434", "http://node:11434"
TAG = {
    "name": "Qwen3:8b",
    "digest": "aa",
    "size": 5,
    "modified_at": "2026-08-21T10:00:00.123456789+02:00",
    "details": {"family": "qwen3", "families": None, "parent_model": "/root/.ollama/models/blobs/sha256-aa"},
    "capabilities": ["completion"],
}
SHOW = {
    "capabilities": ["completion", "tools", "thinking"],
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
}


class Node:
    """Answers by path; an Exception is raised, bytes are sent as they are. `asked` counts."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {
            "/api/tags": {"models": [TAG]},
            "/api/ps": {"models": []},
            "/api/version": {"version": "0.33.0"},
            "/api/show": SHOW,
        }
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.encoding: dict[str, str] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked[path] += 1
        self.headers[path] = dict(request.headers)
        said = self.said[path]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, int):
            return httpx.Response(said, json={"error": "no"})
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        headers = {"content-encoding": self.encoding[path]} if path in self.encoding else {}
        return httpx.Response(
            200, headers=headers, stream=httpx.ByteStream(body)
        )  # not `content`, which is read already


class Fleet:
    """One node, a pool and what asks the one for the other."""

    def __init__(self, *, allow_cloud: bool = False) -> None:
        self.node = Node()
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.node))
        self.pool = Pool([URL], cast(OllamaClient, None), allow_cloud=allow_cloud)
        self.shows = Shows(http)
        self.heard: list[bool] = []
        self.prober = Prober(self.pool, http, self.shows, lambda name, up: self.heard.append(up))

    async def probe(self, *, afresh: bool = True) -> Backend:
        await self.prober.probe(NAME, afresh=afresh)
        return self.pool.snapshot()[0]


async def test_models_are_kept_by_canonical_name_with_what_show_says_of_them() -> None:
    seen = await Fleet().probe()
    model = seen.models["qwen3:8b"]
    assert (seen.healthy, seen.version) == (True, "0.33.0")
    assert (model.spelling, model.size_bytes, model.digest) == ("Qwen3:8b", 5, "aa")
    assert model.modified_s == 1787299200
    assert model.thinks
    assert model.details == Details(family="qwen3", context_length=40960), "no path, and no null"


async def test_show_is_asked_once_for_a_digest() -> None:
    fleet = Fleet()
    for _ in range(3):
        await fleet.probe()
    assert fleet.node.asked["/api/show"] == 1
    fleet.node.said["/api/tags"] = {"models": [TAG | {"digest": "bb"}]}
    fleet.node.said["/api/show"] = {"capabilities": ["embedding"]}
    seen = await fleet.probe()
    assert seen.models["qwen3:8b"].capabilities == {"embedding"}
    assert fleet.node.asked["/api/show"] == 2


@pytest.mark.parametrize("said", [500, b"{", b"\xff", b"[]", {"capabilities": 5}, httpx.ReadTimeout("slow")])
async def test_a_show_that_fails_leaves_what_the_list_says_and_is_asked_again(said: Any) -> None:
    fleet = Fleet()
    fleet.node.said["/api/show"] = said
    assert (await fleet.probe()).models["qwen3:8b"].capabilities == {"completion"}
    with pytest.raises(BackendFault):
        await Library(fleet.pool, fleet.shows, fleet.prober.probe).show("qwen3:8b")  # type: ignore[arg-type]
    fleet.node.said["/api/show"] = SHOW
    assert (await fleet.probe()).models["qwen3:8b"].thinks


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps"])
@pytest.mark.parametrize(
    "said",
    [500, 404, b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, {"models": 5},
     httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), b" " * (17 << 20)],
    ids=lambda said: repr(said)[:20],
)  # fmt: skip
async def test_two_bad_answers_in_a_row_mean_that_a_node_is_away(path: str, said: Any) -> None:
    fleet = Fleet()
    await fleet.probe()
    fleet.node.said[path] = said
    assert (await fleet.probe()).healthy, "one miss is asked again first"
    assert fleet.pool.suspected[NAME].is_set()
    seen = await fleet.probe()
    assert not seen.healthy
    assert "qwen3:8b" in seen.models, "it is tried when nothing better is there"
    assert fleet.heard == [True, False]
    fleet.node.said |= Node().said
    assert (await fleet.probe()).healthy


@pytest.mark.parametrize("said", [404, b"nonsense", {"version": None}])
async def test_a_node_that_does_not_say_its_version_is_as_good_as_others(said: Any) -> None:
    fleet = Fleet()
    fleet.node.said["/api/version"] = said
    seen = await fleet.probe()
    assert (seen.healthy, seen.version) == (True, "")


async def test_entries_that_name_no_model_are_left_out() -> None:
    fleet = Fleet()
    fleet.node.said["/api/tags"] = {"models": [TAG, {"name": ""}, {"name": "no name"}, {}]}
    fleet.node.said["/api/ps"] = {"models": [{"name": "QWEN3:8B", "context_length": 8192}, {"name": "/"}]}
    seen = await fleet.probe()
    assert list(seen.models) == list(seen.loaded) == ["qwen3:8b"]
    assert seen.loaded["qwen3:8b"].context_tokens == 8192


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


async def test_nodes_get_our_own_headers_alone() -> None:
    fleet = Fleet()
    await fleet.probe()
    own = {"host": "node:11434", "accept": "application/json", "accept-encoding": "identity"}
    heard = fleet.node.headers
    assert heard["/api/tags"] == heard["/api/ps"] == heard["/api/version"] == own
    assert heard["/api/show"].pop("content-length")
    assert heard["/api/show"] == own | {"content-type": "application/json"}


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps"])
async def test_an_encoded_answer_is_none(path: str) -> None:
    fleet = Fleet()
    fleet.node.encoding = {path: "gzip"}
    for _ in range(2):
        await fleet.probe()
    assert not fleet.pool.snapshot()[0].healthy
    fleet.node.encoding = {path: "Identity"}
    assert (await fleet.probe()).healthy


async def test_a_model_elsewhere_is_objected_to_by_its_host_not_its_name() -> None:
    fleet = Fleet()
    stub = {"name": "stub:1b", "remote_host": "https://ollama.com:443"}
    fleet.node.said["/api/tags"] = {"models": [TAG, stub, stub | {"name": "qwen3:8b"}]}
    seen = await fleet.probe()
    assert seen.remote == {"stub:1b"}, "what is also here is not elsewhere"
    assert fleet.pool.objection("stub:1b") == "cloud"
    assert (fleet.pool.objection("qwen3:8b"), fleet.pool.objection("nope:1b")) == ("", "model_not_found")
    allowing = Fleet(allow_cloud=True)
    allowing.node.said["/api/tags"] = fleet.node.said["/api/tags"]
    await allowing.probe()
    assert allowing.pool.objection("stub:1b") == ""


@pytest.mark.parametrize(("allow_cloud", "names"), [(False, {"qwen3:8b"}), (True, {"qwen3:8b", "a:cloud", "stub:1b"})])
async def test_models_that_run_elsewhere_are_left_out_unless_allowed(allow_cloud: bool, names: set[str]) -> None:
    fleet = Fleet(allow_cloud=allow_cloud)
    stub = {"name": "stub:1b", "remote_host": "https://ollama.com:443"}
    fleet.node.said["/api/tags"] = {"models": [TAG, {"name": "a:cloud"}, stub]}
    assert set((await fleet.probe()).models) == names


async def test_models_are_listed_again_when_asked_for_or_while_there_are_none() -> None:
    fleet = Fleet()
    fleet.node.said["/api/tags"] = {"models": None}
    await fleet.probe()
    await fleet.probe(afresh=False)
    assert fleet.node.asked["/api/tags"] == 2
    fleet.node.said["/api/tags"] = {"models": [TAG]}
    for _ in range(3):
        assert (await fleet.probe(afresh=False)).models
    assert fleet.node.asked["/api/tags"] == 3
    await fleet.probe(afresh=True)
    assert fleet.node.asked["/api/tags"] == 4
