"""What the prober makes of nodes' answers, good and bad. The nodes are functions behind httpx's own test transport."""

from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from gateway.backends.library import Library
from gateway.backends.view import Listing, State
from gateway.core.fleet import Node as FleetNode
from gateway.core.placing import News
from gateway.core.routing import Details
from gateway.errors import BackendFault
from tests.probed import NAME, SHOW, TAG, URL, Fleet, Node


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


async def test_what_another_replica_asks_about_is_taken_from_it_for_every_node() -> None:
    fleet = Fleet()
    fleet.others = {"aa"}
    assert not (await fleet.probe()).models["qwen3:8b"].shown
    assert fleet.node.asked["/api/show"] == 0
    model = replace(fleet.view.snapshot()[0].models["qwen3:8b"], capabilities=frozenset({"thinking"}), shown=True)
    fleet.view.saw("elsewhere", State(True), Listing({"qwen3:8b": replace(model, spelling="QWEN3:8b")}))
    await fleet.prober.heard(["elsewhere"])
    seen = fleet.view.snapshot()[0].models["qwen3:8b"]
    assert (seen.thinks, seen.shown, seen.spelling) == (True, True, "Qwen3:8b")
    assert list(fleet.told[-1]) == [f"models:{NAME}"]
    assert fleet.node.asked["/api/show"] == 0


@pytest.mark.parametrize("said", [500, b"{", b"\xff", b"[]", {"capabilities": 5}, httpx.ReadTimeout("slow")])
async def test_a_show_that_fails_leaves_what_the_list_says_and_is_asked_again(said: Any) -> None:
    fleet = Fleet()
    fleet.node.said["/api/show"] = said
    assert (await fleet.probe()).models["qwen3:8b"].capabilities == {"completion"}
    with pytest.raises(BackendFault):
        await Library(fleet.view, fleet.shows, fleet.prober.relist).show("qwen3:8b")
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
    assert not fleet.view.snapshot()[0].healthy
    fleet.node.encoding = {path: "Identity"}
    assert (await fleet.probe()).healthy


async def test_a_model_elsewhere_is_objected_to_by_its_host_not_its_name() -> None:
    fleet = Fleet()
    stub = {"name": "stub:1b", "remote_host": "https://ollama.com:443"}
    fleet.node.said["/api/tags"] = {"models": [TAG, stub, stub | {"name": "qwen3:8b"}]}
    seen = await fleet.probe()
    assert seen.remote == {"stub:1b"}, "what is also here is not elsewhere"
    assert fleet.objection("stub:1b") == "cloud"
    assert (fleet.objection("qwen3:8b"), fleet.objection("nope:1b")) == ("", "model_not_found")
    allowing = Fleet(allow_cloud=True)
    allowing.node.said["/api/tags"] = fleet.node.said["/api/tags"]
    await allowing.probe()
    assert allowing.objection("stub:1b") == ""


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


async def test_a_node_gets_its_own_credentials() -> None:
    fleet = Fleet(node=FleetNode(name=NAME, url=URL, bearer="secret"))
    await fleet.probe()
    assert {heard["authorization"] for heard in fleet.node.headers.values()} == {"Bearer secret"}


async def test_others_are_told_what_is_new_and_nothing_twice() -> None:
    fleet = Fleet()
    for _ in range(3):
        await fleet.probe()
    assert [set(told) for told in fleet.told] == [{f"state:{NAME}", f"models:{NAME}"}, {f"models:{NAME}"}]
    fleet.node.said["/api/version"] = {"version": "0.34.0"}
    await fleet.probe()
    assert [set(told) for told in fleet.told[2:]] == [{f"state:{NAME}"}]


async def test_another_replica_knows_what_it_was_told_without_asking() -> None:
    fleet, other = Fleet(), Fleet()
    fleet.node.said["/api/ps"] = {"models": [TAG | {"context_length": 8192}]}
    seen = await fleet.probe()
    for number, told in enumerate(fleet.told, 1):
        other.view.apply(
            News(now_ms=0, version=0, registry=None, revision=number, told=told, busy={}, loads={}, depths={},
                 rates=None, turns=[])
        )  # fmt: skip
    assert other.view.snapshot() == [seen]
    other.node.said = fleet.node.said
    await other.probe()
    assert other.node.asked["/api/show"] == 0, "what a digest is was told too"
    assert other.told == []


async def test_a_model_that_others_wait_for_is_told_of_once_it_is_there() -> None:
    fleet = Fleet()
    await fleet.probe()
    fleet.view.apply(
        News(now_ms=0, version=0, registry=None, revision=0, told={}, busy={}, loads={NAME: "qwen3:8b"}, depths={},
             rates=None, turns=[])
    )  # fmt: skip
    await fleet.probe()
    assert fleet.loaded == []
    fleet.node.said["/api/ps"] = {"models": [TAG]}
    await fleet.probe()
    assert fleet.loaded == [(NAME, "qwen3:8b")]


async def test_a_node_that_has_gone_is_not_asked() -> None:
    fleet = Fleet()
    await fleet.prober.probe("gone", afresh=True)
    assert not fleet.node.asked
