"""Explaining a request says what then becomes of it, and changes nothing at all."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.state import keyspace
from tests.acceptance.conftest import Start
from tests.acceptance.operators import Operator, everything
from tests.nodes import nodes
from tests.world import ADMIN_SECRET, World, bearer, chat
from tests.zygote import run_command

MODEL = "llama3.2:3b"
SOON_S = 15.0
POLL_S = 0.02
TURNS = [{"role": "user", "content": "Why is the sky blue? " * 20}, {"role": "assistant", "content": "It scatters."}]


async def alone(world: World) -> Operator:
    """Nobody else changes anything: the worker has done its part."""
    for worker in world.workers:
        await worker.stop()
    return Operator(world)


async def explained(operator: Operator, key: dict[str, Any], body: Any = None, **more: Any) -> dict[str, Any]:
    reply = await operator.ask("POST", "/explain", {"key_id": key["id"], "body": body or chat()} | more)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def unchanging(operator: Operator, key: dict[str, Any], body: Any = None) -> dict[str, Any]:
    """The same, while nothing else goes on: it may take a moment until the slots of calls that ended are free."""
    async with asyncio.timeout(SOON_S):
        while await operator.world.redis.exists(*(name for name in keyspace.fleet() if name.endswith(":held"))):
            await asyncio.sleep(POLL_S)
    before = await everything(operator.world)
    said = await explained(operator, key, body)
    assert await everything(operator.world) == before, "it changed something"
    return said


async def until(operator: Operator, key: dict[str, Any], wanted: Any, **more: Any) -> dict[str, Any]:
    async with asyncio.timeout(SOON_S):
        while not wanted(said := await explained(operator, key, **more)):
            await asyncio.sleep(POLL_S)
    return said


async def test_it_says_where_a_call_goes_and_what_it_costs(start: Start) -> None:
    async with nodes(3) as fleet:
        fleet[1].shelf.load(fleet[1].shelf.models[MODEL], "1h", 8_192)
        del fleet[2].shelf.models[MODEL]
        async with start(fleet.urls, OLLAMA_SLOTS="2", ROUTING_HEADERS="true") as world:
            operator = await alone(world)
            key = await operator.make("/api-keys", credits=10, label="me")
            said = await until(operator, key, lambda said: said["backends"][0]["state"] == "loaded")
            name, cold, without = (fleet[number].url.partition("://")[2] for number in (1, 0, 2))
            assert (said["key"]["id"], said["key"]["enabled"], said["key"]["label"]) == (key["id"], True, "me")
            assert (said["model"], said["alias"], said["affinity"]) == (MODEL, None, None)
            assert said["admission"]["would_admit"] and said["admission"]["price"] == 1
            limits = {one["limit"]: one for one in said["admission"]["limits"]}
            assert (limits["requests"]["before"], limits["requests"]["after"]) == (20, 19)
            assert (limits["credits"]["before"], limits["credits"]["after"]) == (10, 9)
            assert await unchanging(operator, key) == said
            first, second, third = said["backends"]
            assert [one["name"] for one in said["backends"]] == [name, cold, without]
            assert (first["rank"], first["reason"], first["busy"], first["slots"]) == (1, None, 0, 2)
            assert (second["rank"], second["state"]) == (2, "cold") and second["finish_ms"] > first["finish_ms"]
            assert (third["rank"], third["reason"], third["state"]) == (None, "model_missing", None)
            assert said["would"] == {
                "place": name, "loads": False, "queue_position": None, "depth": None, "about_s": None, "refused": None,
            }  # fmt: skip

            reply = await operator.call(key["key"])
            assert reply.headers["x-gateway-backend"] == name
            body = {"model": MODEL, "messages": [*TURNS, {"role": "user", "content": "And at night?"}]}
            await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key["key"]), json=body)
            said = await unchanging(operator, key, body | {"messages": [*body["messages"], *TURNS[::-1]]})
            assert said["affinity"] == name, "that conversation was there"
            other = await operator.make("/api-keys")
            assert (await explained(operator, other, body))["affinity"] is None, "nobody learns of others' prompts"

            await operator.change(f"/backends/{name}", draining=True)
            said = await until(operator, key, lambda said: said["would"]["place"] == cold)
            assert said["would"]["loads"] is True
            reasons = {one["name"]: one["reason"] for one in said["backends"]}
            assert reasons == {cold: None, name: "draining", without: "model_missing"}
            assert said["backends"][0]["name"] == cold
            await operator.change(f"/backends/{cold}", draining=True)
            await until(operator, key, lambda said: said["would"]["refused"] == "no_backend")


async def test_a_full_fleet_has_a_place_in_the_line(start: Start, fake: FakeOllama) -> None:
    fake.shelf.load(fake.shelf.models[MODEL])
    async with start([fake.url], OLLAMA_SLOTS="1", QUEUE_LENGTH_MAX="2") as world:
        operator = await alone(world)
        one, two = [await operator.make("/api-keys", rate_limit_per_min=1_000) for _ in range(2)]
        fake.behaviour = Behaviour(hang_after_tokens=1)
        headers = bearer(one["key"])
        async with world.http.stream(
            "POST", f"{world.url}/v1/chat/completions", headers=headers, json=chat(stream=True)
        ) as holder:
            pieces = holder.aiter_raw()
            await anext(pieces)
            fake.behaviour = Behaviour()
            waits = []
            for depth in (0, 1):
                said = await until(operator, one, lambda said, depth=depth: said["would"]["depth"] == depth)
                assert said["would"]["queue_position"] == depth + 1
                assert (said["would"]["about_s"] > 0, said["would"]["place"]) == (True, None)
                assert said["backends"][0]["busy"] == 1
                waits.append(asyncio.create_task(operator.call(one["key"])))
            said = await until(operator, two, lambda said: said["would"]["refused"] is not None)
            assert (said["would"]["refused"], said["would"]["depth"]) == ("queue_full", 2)
        assert [reply.status_code for reply in await asyncio.gather(*waits)] == [200, 200]


async def test_an_ejected_backend_and_a_refused_key_are_told(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url]) as world:
        operator = await alone(world)
        key = await operator.make("/api-keys", rate_limit_per_min=2, models=["llama*"])
        for _ in range(2):
            assert (await operator.call(key["key"])).status_code == 200
        said = await unchanging(operator, key)
        real = (await operator.call(key["key"])).json()["error"]
        assert said["would"]["refused"] == said["admission"]["reason"] == real["code"] == "rate_limit_exceeded"
        assert said["backends"][0]["rank"] == 1, "the fleet is told of all the same"
        assert (await explained(operator, key, chat(model="qwen3:8b")))["would"]["refused"] == "model_not_found"
        many = await operator.make("/api-keys", rate_limit_per_min=1_000)
        fake.behaviour = Behaviour(status=500, error="broken")
        for _ in range(3):
            assert (await operator.call(many["key"])).status_code >= 500
        said = await until(operator, many, lambda said: said["backends"][0]["reason"] == "ejected")
        assert said["would"]["refused"] == "no_backend"
        metrics = (await world.http.get(world.url + "/metrics")).text
        name = fake.url.partition("://")[2]
        assert f'gateway_backend_ejected{{backend="{name}",model="{MODEL}"}} 1.0' in metrics
        assert f'gateway_ejections_total{{backend="{name}",model="{MODEL}"}} 1.0' in metrics
        assert f'gateway_backend_calls_total{{backend="{name}",model="{MODEL}",status="ok"}} 2.0' in metrics
        assert f'gateway_wait_seconds_count{{model="{MODEL}"}}' in metrics


async def test_aliases_and_every_dialect_are_understood(world: World) -> None:
    operator = await alone(world)
    key = await operator.make("/api-keys")
    await operator.make("/aliases", name="fast", targets=[MODEL], context_tokens=4_096)
    said = await until(operator, key, lambda said: said["alias"] == "fast:latest", body=chat(model="fast"))
    assert (said["model"], said["backends"][0]["context_tokens"]) == (MODEL, 4_096)
    dry = {"key_id": key["id"], "model": "fast", "prompt_tokens": 1}
    assert (await operator.ask("POST", "/limits/dry-run", dry)).json()["would_admit"]
    user = [{"role": "user", "content": "x"}]
    for endpoint, body in {
        "/v1/completions": {"model": MODEL, "prompt": "x"},
        "/v1/responses": {"model": MODEL, "input": "x"},
        "/v1/messages": {"model": MODEL, "max_tokens": 9, "messages": user},
        "/api/chat": {"model": MODEL, "messages": user},
        "/api/generate": {"model": MODEL, "prompt": "x"},
        "/api/embed": {"model": "nomic-embed-text", "input": "x"},
        "/v1/embeddings": {"model": "nomic-embed-text", "input": "x"},
        "/generate": {"prompt": "x"},
    }.items():
        assert (await explained(operator, key, body, endpoint=endpoint))["would"]["place"], endpoint
    good = {"key_id": key["id"], "body": chat()}
    for bad, param in (
        ({"endpoint": "/v1/nope"}, "endpoint"),
        ({"body": {}}, "body"),
        ({"body": chat(model="no name")}, "body"),
        ({"body": chat(options={"num_ctx": 10**9})}, "body"),
        ({"body": chat(_debug_render_only=True)}, "body"),
        ({"body": {"model": MODEL, "messages": []}, "endpoint": "/api/chat"}, "body"),
        ({"address": "x"}, "address"),
    ):
        error = await operator.refused(400, "invalid_request", "POST", "/explain", good | bad)
        assert error["param"] == param, bad
    for wrong in ({"body": []}, {"more": 1}, {"body": None}):
        await operator.refused(400, "invalid_request", "POST", "/explain", good | wrong)
    await operator.refused(404, "key_not_found", "POST", "/explain", good | {"key_id": "0000000000"})


async def test_the_command_shows_it_as_a_table(world: World, tmp_path: Path) -> None:
    operator = await alone(world)
    key = await operator.make("/api-keys", label="me", rate_limit_per_min=1)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "ADMIN_SECRET": ADMIN_SECRET}

    async def run(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            run_command, "explain", *argv, "--url", world.url, env=env, cwd=tmp_path, text=text
        )

    (tmp_path / "body.json").write_text(json.dumps(chat()))
    done = await run(key["id"], "--file", "body.json")
    assert (done.returncode, done.stderr) == (0, ""), done
    (node,) = (await operator.get("/backends"))["data"]
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["key", f"{key['id']},", "label", "me"]
    assert re.search(rf"^would +go to {node['name']}, which loads the model first$", done.stdout, re.MULTILINE)
    assert "admitted: its answer may take" in done.stdout
    assert lines[-2].split()[:4] == ["RANK", "BACKEND", "STATE", "BUSY"]
    assert lines[-1].split()[:3] == ["1", node["name"], "cold"]
    assert (await operator.call(key["key"])).status_code == 200
    refused = await run(key["id"], "--file", "-", text=json.dumps(chat()))
    assert refused.returncode == 1 and "be refused (rate_limit_exceeded)" in refused.stdout
    (tmp_path / "list.json").write_text("[]")
    for file in ("nowhere.json", "list.json", "."):
        wrong = await run(key["id"], "--file", file)
        assert (wrong.returncode, wrong.stdout) == (2, "") and file in wrong.stderr


@pytest.mark.parametrize("path", ["/ready"])
async def test_readiness_tells_of_the_backends(world: World, fake: FakeOllama, path: str) -> None:
    assert (await world.http.get(world.url + path)).json()["backends"] == {fake.url.partition("://")[2]: "up"}
