"""The fake Ollama loads, evicts, queues and wedges as the real one was seen to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_hardware import Hardware
from gateway.dev.fake_ollama import FakeOllama

LLAMA, QWEN, NOMIC = "llama3.2:3b", "qwen3:8b", "nomic-embed-text:latest"
LOAD_MS = 60
NS_A_MS = 1_000_000


@pytest.fixture
async def client(fake: FakeOllama) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=fake.url, timeout=10, limits=limits) as client:
        yield client


def chat(model: str = LLAMA, text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **fields}


async def ask(client: httpx.AsyncClient, model: str = LLAMA, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/api/chat", json=chat(model, **fields))
    answer.raise_for_status()
    return dict(answer.json())


async def unload(client: httpx.AsyncClient, model: str = LLAMA) -> None:
    answer = await client.post("/api/generate", json={"model": model, "keep_alive": 0})
    assert answer.json()["done_reason"] == "unload"


async def loaded(client: httpx.AsyncClient) -> dict[str, int]:
    models = (await client.get("/api/ps")).json()["models"]
    return {one["name"]: one["context_length"] for one in models}


async def leave(call: asyncio.Task[Any]) -> None:
    """The client of this call goes away."""
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_many_first_calls_are_one_load_and_it_is_told(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(load_ms=LOAD_MS)
    calls = [asyncio.ensure_future(ask(client)) for _ in range(20)]
    await fake.ledger.until(lambda ledger: ledger.open == 20 and ledger.loads)
    assert (fake.memory.loading, await loaded(client)) == (LLAMA, {})
    answers = await asyncio.gather(*calls)
    assert fake.ledger.loads == {LLAMA: 1}
    assert await loaded(client) == {LLAMA: 8192}
    assert all(answer["load_duration"] > LOAD_MS * NS_A_MS / 2 for answer in answers)
    assert (await ask(client))["load_duration"] < LOAD_MS * NS_A_MS / 2
    assert fake.ledger.loads == {LLAMA: 1}


async def test_a_load_ends_with_the_client_it_belongs_to_and_the_next_begins_anew(
    fake: FakeOllama, client: httpx.AsyncClient
) -> None:
    fake.hardware = Hardware(load_ms=60_000)
    first = asyncio.ensure_future(ask(client))
    await fake.ledger.until(lambda ledger: ledger.loads[LLAMA] == 1)
    second = asyncio.ensure_future(ask(client))
    await fake.ledger.until(lambda ledger: ledger.open == 2)
    fake.hardware = Hardware(load_ms=LOAD_MS)
    await leave(first)
    await second
    assert fake.ledger.loads == {LLAMA: 2}
    assert fake.ledger.loads_given_up == {LLAMA: 1}


async def test_one_load_at_a_time_in_order_while_loaded_models_serve(
    fake: FakeOllama, client: httpx.AsyncClient
) -> None:
    await ask(client, LLAMA)
    fake.hardware = Hardware(load_ms=60_000)
    first = asyncio.ensure_future(ask(client, QWEN))
    await fake.ledger.until(lambda ledger: ledger.loads[QWEN])
    behind = asyncio.ensure_future(client.post("/api/embed", json={"model": NOMIC, "input": "x"}))
    await fake.ledger.until(lambda ledger: ledger.open_of[NOMIC])
    assert (await ask(client, LLAMA))["done"]
    assert fake.ledger.loads == {LLAMA: 1, QWEN: 1}
    fake.hardware = Hardware(load_ms=LOAD_MS)
    await leave(first)
    assert (await behind).json()["load_duration"] >= LOAD_MS * NS_A_MS / 2
    assert fake.ledger.loads == {LLAMA: 1, QWEN: 1, NOMIC: 1}


async def test_another_context_is_another_load_after_what_runs(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(load_ms=1)
    fake.behaviour = Behaviour(first_byte_ms=60_000, remaining=1)
    running = asyncio.ensure_future(ask(client))
    await fake.ledger.until(lambda ledger: ledger.loads)
    other = asyncio.ensure_future(ask(client, options={"num_ctx": 4096}))
    await fake.ledger.until(lambda ledger: ledger.open == 2)
    assert (await ask(client))["done"]  # the loaded one goes on serving
    assert (await loaded(client), fake.ledger.loads) == ({LLAMA: 8192}, {LLAMA: 1})
    await leave(running)
    await other
    assert (await loaded(client), fake.ledger.loads) == ({LLAMA: 4096}, {LLAMA: 2})
    await ask(client)  # not to say it is to want the node's own
    assert (await loaded(client), fake.ledger.loads) == ({LLAMA: 8192}, {LLAMA: 3})


async def test_a_context_longer_than_trained_is_cut(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    for num_ctx in 2048, 8192:
        await client.post("/api/embed", json={"model": NOMIC, "input": "x", "options": {"num_ctx": num_ctx}})
    assert (await loaded(client), fake.ledger.loads) == ({NOMIC: 2048}, {NOMIC: 1})


async def test_the_idle_one_that_expires_first_makes_room(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(load_ms=1, memory_models=2)
    await ask(client, LLAMA, keep_alive="1h")
    await ask(client, QWEN, keep_alive="1m")
    await client.post("/api/embed", json={"model": NOMIC, "input": "x"})
    assert sorted(await loaded(client)) == [LLAMA, NOMIC]
    assert fake.ledger.loads == {LLAMA: 1, QWEN: 1, NOMIC: 1}


async def test_a_busy_model_is_waited_for(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(load_ms=1, memory_models=1)
    fake.behaviour = Behaviour(hang=True, remaining=1)
    running = asyncio.ensure_future(ask(client, LLAMA))
    await fake.ledger.until(lambda ledger: ledger.loads)
    waiting = asyncio.ensure_future(ask(client, QWEN))
    await fake.ledger.until(lambda ledger: ledger.open == 2)
    assert list(await loaded(client)) == [LLAMA]
    await leave(running)
    await waiting
    assert list(await loaded(client)) == [QWEN]


async def test_a_failing_load_takes_its_time_and_loads_nothing(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(load_ms=1)
    fake.behaviour = Behaviour(load_failure=True)
    assert (await client.post("/api/chat", json=chat())).status_code == 500
    assert (await loaded(client), fake.ledger.loads) == ({}, {LLAMA: 1})


async def test_generations_wait_for_a_slot_in_order_without_a_word(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(parallel=1)
    fake.behaviour = Behaviour(hang=True, remaining=1)
    ended: list[str] = []

    async def call(name: str, model: str = LLAMA) -> dict[str, Any]:
        answer = await ask(client, model)
        ended.append(name)
        return answer

    first = asyncio.ensure_future(call("first"))
    await fake.ledger.until(lambda ledger: ledger.open == 1)
    waiting = []
    for number in range(3):
        waiting.append(asyncio.ensure_future(call(f"{number}")))
        await fake.ledger.until(lambda ledger, number=number: ledger.open == number + 2)
    await call("another model", QWEN)
    assert ended == ["another model"]
    await leave(waiting[1])  # one that waits in the midst
    await leave(first)
    answers = [await waiting[0], await waiting[2]]
    assert ended == ["another model", "0", "2"]
    spent = {"load_duration", "prompt_eval_duration", "eval_duration"}
    assert answers[0]["total_duration"] > sum(answers[0][name] for name in spent)
    assert (fake.ledger.peak, fake.ledger.peaks) == (5, {LLAMA: 4, QWEN: 1})
    assert (fake.ledger.open, +fake.ledger.open_of) == (0, {})


async def test_what_things_take_is_told(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(prompt_ms_per_token=0.5, tokens_per_s=1000, slow=2)
    fake.behaviour = Behaviour(tokens=10)
    answer = await ask(client)
    assert (answer["prompt_eval_count"], answer["prompt_eval_duration"]) == (20, 20 * NS_A_MS)
    assert (answer["eval_count"], answer["eval_duration"]) == (10, 20 * NS_A_MS)


async def test_a_conversation_is_evaluated_once_on_the_node_that_remembers_it(
    fake: FakeOllama, client: httpx.AsyncClient
) -> None:
    fake.hardware = Hardware(prompt_ms_per_token=0.01, prompt_cache=2)
    messages: list[dict[str, str]] = []
    figures = []
    for turn in range(3):
        messages.append({"role": "user", "content": f"question {turn}"})
        answer = await ask(client, messages=messages)
        messages.append(answer["message"])
        figures.append((answer["prompt_eval_count"], answer["prompt_eval_duration"] // 10_000))
    assert figures == [(21, 21), (21 + 23 + 21, 21), (21 + 23 + 21 + 23 + 21, 21)]
    assert (fake.ledger.prompt_tokens, fake.ledger.evaluated_tokens) == (21 + 65 + 109, 63)
    assert fake.ledger.cached_tokens == 132
    await unload(client)
    await ask(client, messages=messages[:1])
    assert fake.ledger.evaluated_tokens == 63 + 21  # what was unloaded remembers nothing


@pytest.mark.parametrize("heals", [True, False])
async def test_a_wedged_model_is_silent_until_it_is_unloaded_and_idle(
    fake: FakeOllama, client: httpx.AsyncClient, heals: bool
) -> None:
    fake.hardware = Hardware(wedge_heals_by_unload=heals)
    await ask(client)
    fake.behaviour = Behaviour(wedged=(LLAMA,))
    silent = asyncio.ensure_future(ask(client))
    await fake.ledger.until(lambda ledger: ledger.open)
    assert (await ask(client, QWEN))["done"]
    for path in "/api/version", "/api/tags":
        assert (await client.get(path)).status_code == 200
    await unload(client)
    assert LLAMA in await loaded(client)  # a call holds it
    assert fake.behaviour.wedged == (LLAMA,)
    await leave(silent)
    await fake.ledger.until(lambda _: LLAMA not in fake.shelf.loaded)
    assert fake.behaviour.wedged == (() if heals else (LLAMA,))
    assert LLAMA not in await loaded(client)
    fake.behaviour = Behaviour()
    assert (await ask(client))["done"]
    assert fake.ledger.unloads == {LLAMA: 1}


async def test_who_waits_on_a_wedged_model_is_answered_when_it_is_told_to_be_well(
    fake: FakeOllama, client: httpx.AsyncClient
) -> None:
    fake.behaviour = Behaviour(wedged=("LLAMA3.2:3b",))
    silent = asyncio.ensure_future(ask(client))
    await fake.ledger.until(lambda ledger: ledger.open)
    fake.behaviour = Behaviour()
    assert (await silent)["done"]


async def test_a_client_that_leaves_amid_a_stream_can_leak_a_slot(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    fake.hardware = Hardware(leaks_slot=True)
    fake.behaviour = Behaviour(hang_after_tokens=2, remaining=1)
    async with client.stream("POST", "/api/chat", json=chat(stream=True)):
        await fake.ledger.until(lambda ledger: ledger.exchanges[-1].tokens_sent == 2)
    await fake.ledger.until_idle()
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/api/chat", json=chat(), timeout=0.05)
    await fake.ledger.until_idle()
    assert (await client.get("/api/ps")).json()["models"]
    assert fake.behaviour.wedged == (LLAMA,)
    await unload(client)
    assert (await ask(client))["done"]


async def test_the_hardware_by_http(fake: FakeOllama, client: httpx.AsyncClient) -> None:
    changed = await client.patch("/_fake/hardware", json={"version": "0.17.0", "parallel": 3})
    assert (changed.status_code, changed.json()["load_ms"]) == (200, 0)
    assert (fake.hardware.parallel, fake.hardware.slow) == (3, 1)
    assert (await client.get("/api/version")).json() == {"version": "0.17.0"}
    assert (await client.patch("/_fake/hardware", json={"paralel": 3})).status_code == 400
    await client.post("/_fake/reset")
    assert (await client.get("/api/version")).json() == {"version": "0.17.0"}
