"""Nodes and aliases through HTTP: the same on every replica at once, without a restart, and no secret comes back."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from gateway.core import advisories
from gateway.core.fleet import Registry
from gateway.dev.fake_ollama import FakeOllama
from gateway.state import keyspace
from tests.acceptance.conftest import Start
from tests.acceptance.operators import Operator
from tests.world import ADMIN_SECRET, World

SOON_S = 10.0
POLL_S = 0.02
BEARER = "the-bearer-of-a-node"
SECOND = "http://127.0.0.1:9"
"""nobody listens there"""


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


def name_of(fake: FakeOllama) -> str:
    return fake.url.partition("://")[2]


async def told(world: World) -> Registry:
    """The fleet as replicas read it."""
    return msgspec.json.decode(await world.redis.hget(keyspace.fleet()[0], "document"), type=Registry)


async def until(read: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(SOON_S):
        while not wanted(found := await read()):
            await asyncio.sleep(POLL_S)
    return found


async def test_a_node_is_added_changed_read_and_removed(operator: Operator, fake: FakeOllama) -> None:
    (first,) = await operator.walk("/backends", 5)
    assert (first["name"], first["source"], first["state"]) == (name_of(fake), "settings", "up")
    assert (first["draining"], first["ejected"]) == (False, [])
    assert first["warnings"] == list(advisories.warnings(first["version"])) != []
    assert first["models"] > 0 and first["version"]

    body = {"name": "gpu-1", "url": f"{SECOND}/", "slots": 3, "tags": ["a", "b"], "bearer": BEARER}
    made = await operator.make("/backends", **body)
    assert (made["url"], made["slots"], made["weight"], made["tags"]) == (SECOND, 3, 100, ["a", "b"])
    assert (made["source"], made["has_bearer"], made["has_ca"]) == ("admin", True, False)
    assert made["state"] in ("new", "down")
    (node,) = (await told(operator.world)).nodes
    assert (node.name, node.url, node.bearer) == ("gpu-1", SECOND, BEARER), "at once, before the answer came"
    changed = await operator.change("/backends/gpu-1", draining=True, bearer=None, weight=5)
    assert (changed["draining"], changed["has_bearer"], changed["weight"], changed["slots"]) == (True, False, 5, 3)
    (node,) = (await told(operator.world)).nodes
    assert (node.draining, node.bearer) == (True, "")
    assert [one["name"] for one in await operator.walk("/backends", 1)] == sorted([name_of(fake), "gpu-1"])
    assert (await operator.get("/backends/gpu-1"))["weight"] == 5
    assert await operator.remove("/backends/gpu-1") == {"id": "gpu-1", "removed": True}
    assert (await told(operator.world)).nodes == ()
    for method in ("GET", "DELETE"):
        await operator.refused(404, "backend_not_found", method, "/backends/gpu-1")
    await operator.refused(404, "backend_not_found", "PATCH", "/backends/gpu-1", {"slots": 1})


async def test_no_answer_and_no_log_holds_a_bearer(operator: Operator) -> None:
    path, body = "/backends/gpu-1", {"name": "gpu-1", "url": SECOND, "bearer": BEARER}
    replies = [
        await operator.ask("POST", "/backends", body),
        await operator.ask("POST", "/backends", body),
        await operator.ask("GET", path),
        await operator.ask("GET", "/backends"),
        await operator.ask("PATCH", path, {"bearer": f"{BEARER} two words"}),
        await operator.ask("PATCH", path, {"bearer": f"{BEARER}-2"}),
        await operator.ask("DELETE", path),
        await operator.ask("GET", "/audit"),
    ]
    assert [reply.status_code for reply in replies] == [201, 409, 200, 200, 400, 200, 200, 200]
    assert not [reply.text for reply in replies if BEARER in reply.text]
    assert BEARER not in operator.world.log("replica-0") + operator.world.log("worker-0")
    entries = await operator.audit(object="backend:gpu-1")
    assert [entry["action"] for entry in entries] == ["remove", "update", "create"]
    assert entries[1]["after"]["replaced"] == ["bearer"]


async def test_what_is_there_already_or_cannot_be_is_refused(operator: Operator, fake: FakeOllama) -> None:
    await operator.make("/backends", name="gpu-1", url=SECOND)
    for body in (
        {"url": SECOND},
        {"name": "gpu-1", "url": "http://127.0.0.1:10"},
        {"name": "again", "url": fake.url},
        {"name": name_of(fake), "url": "http://127.0.0.1:10"},
    ):
        await operator.refused(409, "conflict", "POST", "/backends", body)
    for body, param in (
        ({"url": "ftp://127.0.0.1"}, "url"),
        ({"url": "http://me:secret@127.0.0.1"}, "url"),
        ({"url": "http://127.0.0.1/?x"}, "url"),
        ({"url": "http://127.0.0.1", "name": "a/b"}, "name"),
        ({"url": "http://127.0.0.1", "ca_pem": "x"}, "ca_pem"),
        ({"url": "https://127.0.0.1", "ca_pem": "x"}, "ca_pem"),
        ({"url": "http://127.0.0.1", "tags": ["a b"]}, "tags"),
    ):
        error = await operator.refused(400, "invalid_request", "POST", "/backends", body)
        assert error["param"] == param and "secret" not in error["message"]
    for body in ({}, {"url": "http://a", "slots": 0}, {"url": "http://a", "drain": True}, {"url": None}):
        await operator.refused(400, "invalid_request", "POST", "/backends", body)
    await operator.refused(400, "invalid_request", "PATCH", "/backends/gpu-1", {"url": "http://127.0.0.1:10"})
    assert len(await operator.walk("/backends", 5)) == 2


async def test_the_same_request_twice_adds_one_node(operator: Operator) -> None:
    body = {"url": SECOND, "name": "gpu-1"}
    first = await operator.ask("POST", "/backends", body, Idempotency_Key="k")
    second = await operator.ask("POST", "/backends", body, Idempotency_Key="k")
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json()["name"] == "gpu-1"
    assert len(await operator.audit(object="backend:gpu-1")) == 1


async def test_a_node_of_the_settings_can_be_overruled_and_let_be_again(operator: Operator, fake: FakeOllama) -> None:
    name = name_of(fake)
    path = f"/backends/{name}"
    before = await operator.get(path)
    await operator.refused(409, "conflict", "DELETE", path)
    changed = await operator.change(path, draining=True, slots=before["slots"] + 1)
    assert (changed["state"], changed["slots"], changed["source"]) == ("draining", before["slots"] + 1, "settings")
    assert changed["url"] == fake.url
    key = await operator.world.create_key()
    assert (await told(operator.world)).nodes[0].draining

    async def served() -> httpx.Response:
        return await operator.call(key)

    refused = await until(served, lambda reply: reply.status_code != 200)
    assert refused.status_code == 503
    assert await operator.remove(path) == {"id": name, "removed": True}
    await until(served, lambda reply: reply.status_code == 200)
    await until(lambda: operator.get(path), lambda one: one["slots"] == before["slots"] and one["state"] == "up")


async def test_an_alias_is_made_changed_read_and_removed(operator: Operator) -> None:
    made = await operator.make(
        "/aliases", name="Team/Fast", targets=["none:1b", "LLAMA3.2:3b"], options={"top_k": 40.0}, context_tokens=4_096
    )
    assert made == {
        "name": "team/fast:latest",
        "targets": ["none:1b", "llama3.2:3b"],
        "options": {"top_k": 40},
        "context_tokens": 4_096,
        "answers": "llama3.2:3b",
    }
    for path in ("/aliases/team/fast:latest", "/aliases/Team/Fast", "/aliases/team%2Ffast"):
        assert await operator.get(path) == made
    (alias,) = (await told(operator.world)).aliases
    assert (alias.name, alias.options) == ("team/fast:latest", {"top_k": 40})
    await operator.make("/aliases", name="b", targets=["none:1b"])
    assert [one["name"] for one in await operator.walk("/aliases", 1)] == ["b:latest", "team/fast:latest"]
    assert (await operator.get("/aliases/b"))["answers"] is None
    changed = await operator.change("/aliases/team/fast", options={}, context_tokens=None, targets=["llama3.2:3b"])
    assert (changed["options"], changed["context_tokens"], changed["targets"]) == ({}, None, ["llama3.2:3b"])
    await operator.refused(409, "conflict", "POST", "/aliases", {"name": "B:latest", "targets": ["m"]})
    assert await operator.remove("/aliases/Team/Fast") == {"id": "team/fast:latest", "removed": True}
    assert [alias.name for alias in (await told(operator.world)).aliases] == ["b:latest"]
    for method in ("GET", "DELETE"):
        await operator.refused(404, "alias_not_found", method, "/aliases/team/fast")
    await operator.refused(404, "alias_not_found", "PATCH", "/aliases/no%20name", {})
    for body in (
        {"name": "a b", "targets": ["m"]},
        {"name": "a", "targets": []},
        {"name": "a", "targets": ["*"]},
        {"name": "a", "targets": ["m"], "options": {"num_ctx": 1}},
        {"name": "a", "targets": ["m"], "options": {"num_gpu": 1}},
        {"name": "a", "targets": ["m"], "options": {"temperature": "x"}},
        {"name": "a", "targets": ["m"], "context_tokens": 0},
        {"name": "a", "targets": ["m"], "weight": 1},
    ):
        await operator.refused(400, "invalid_request", "POST", "/aliases", body)
    assert [entry["action"] for entry in await operator.audit(object="alias:team/fast:latest")] == [
        "remove",
        "update",
        "create",
    ]


async def test_every_replica_knows_and_an_empty_redis_is_filled_again(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], replicas=3) as world:
        operator = Operator(world)
        await operator.make("/backends", name="gpu-1", url=SECOND, bearer=BEARER)
        await operator.make("/aliases", name="fast", targets=["llama3.2:3b"])
        before = await told(world)

        async def states() -> list[str]:
            """What each replica has seen of the new node; `new`: nothing."""
            headers = {"X-Admin-Secret": ADMIN_SECRET}
            urls = (f"{url}/admin/backends/gpu-1" for _, url in world.replicas)
            replies = await asyncio.gather(*(world.http.get(url, headers=headers) for url in urls))
            return [reply.json()["state"] for reply in replies]

        await until(states, lambda found: "new" not in found)
        await world.redis.flushall()

        async def document() -> str | None:
            return await world.redis.hget(keyspace.fleet()[0], "document")  # type: ignore[no-any-return]

        again = await until(document, lambda found: found is not None)
        assert json.loads(again) == json.loads(msgspec.json.encode(before))


async def test_a_tier_has_a_weight(operator: Operator) -> None:
    await operator.make("/tiers", name="heavy", weight=7)
    assert (await operator.get("/tiers/heavy"))["weight"] == 7
    assert (await operator.change("/tiers/heavy", weight=3))["weight"] == 3
    for bad in (0, 101, 1.5, None):
        await operator.refused(400, "invalid_request", "PATCH", "/tiers/heavy", {"weight": bad})
