"""What a failing node looks like to clients: another node's answer, or a true status, or an error frame; never a
normal end, and never a charge."""

import asyncio
import json
from typing import Any

import httpx

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_models import MODELS
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import World, bearer, chat, credits_left

NOTICED_S = 12.0
"""two probes in vain"""
CHAT, PLAIN = "/v1/chat/completions", "/v1/generate"
BEFORE_THE_ANSWER: list[tuple[str, Behaviour, int, str]] = [
    ("a 500", Behaviour(status=500), 502, "backend_failed"),
    ("queue full", Behaviour(queue_full=True), 503, "backend_busy"),
    ("load failure", Behaviour(load_failure=True), 502, "backend_failed"),
    ("dropped", Behaviour(drop_after_chunks=0), 502, "backend_unreachable"),
    ("silent", Behaviour(hang=True), 504, "backend_timeout"),
    ("error", Behaviour(error_after_tokens=0), 502, "stream_broken"),
]
WITHIN_THE_ANSWER: list[tuple[str, Behaviour, str]] = [
    ("dropped", Behaviour(tokens=9, drop_after_chunks=3, tokens_per_s=50), "stream_broken"),
    ("silent", Behaviour(tokens=9, hang_after_tokens=3), "backend_timeout"),
    ("error line", Behaviour(tokens=9, error_after_tokens=3), "stream_broken"),
    ("garbage", Behaviour(tokens=9, garbage=True), "stream_broken"),
    ("truncated", Behaviour(tokens=9, truncate=True), "stream_broken"),
]


async def test_faults_before_the_answer_have_a_true_status_in_every_dialect(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], OLLAMA_TIMEOUT="1") as world:
        key, other = await world.create_key(credits=5, rate_limit_per_min=1_000), await world.create_key()
        calls = 0
        for name, behaviour, status, code in BEFORE_THE_ANSWER:
            for path, body in ((CHAT, chat(stream=True)), (CHAT, chat()), (PLAIN, {"prompt": "hi"})):
                fake.behaviour = behaviour
                reply = await world.http.post(world.url + path, headers=bearer(key), json=body)
                if name == "error" and not body.get("stream"):
                    assert reply.status_code == 502, (name, reply.text)  # Ollama says 500 then
                else:
                    assert (reply.status_code, _code(reply)) == (status, code), (name, path, reply.text)
                assert ("retry-after" in reply.headers) == (status == 503), name
                calls += 1
                await _serves(world, fake, other)
        _cost_nothing(await world.rows(2 * calls), served=calls)
        usage = await world.usage(key)
        assert usage["credits"] == credits_left(5, of=5)
        assert (usage["monthly_tokens"]["spent"], usage["monthly_tokens"]["held"]) == (0, 0)


async def test_faults_within_the_answer_end_in_an_error_frame_and_no_done(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], OLLAMA_IDLE_TIMEOUT="1") as world:
        key, other = await world.create_key(credits=5), await world.create_key()
        for name, behaviour, code in WITHIN_THE_ANSWER:
            fake.behaviour = behaviour
            reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(stream=True))
            assert reply.status_code == 200
            events = [event.removeprefix("data: ") for event in reply.text.split("\n\n") if event]
            assert "[DONE]" not in events, name
            assert json.loads(events[-1])["error"]["code"] == code, name
            assert all(json.loads(event)["choices"][0]["finish_reason"] is None for event in events[:-1]), name

            reply = await world.http.post(world.url + PLAIN, headers=bearer(key), json={"prompt": "x", "stream": True})
            lines = [json.loads(line) for line in reply.text.splitlines()]
            assert lines[-1]["code"] == code, name
            assert not any(line["done"] for line in lines[:-1]), name
            await _serves(world, fake, other)
        _cost_nothing(await world.rows(3 * len(WITHIN_THE_ANSWER)), served=len(WITHIN_THE_ANSWER))
        assert (await world.usage(key))["credits"] == credits_left(5, of=5)
        assert await world.leases() == 0


async def test_a_body_in_single_bytes_is_the_same_answer(world: World, fake: FakeOllama) -> None:
    key = await world.create_key()
    fake.behaviour = Behaviour(trickle=True, trickle_ms=0)
    reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(stream=True))
    fake.behaviour = Behaviour()
    plain = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(stream=True))
    assert _deltas(reply) == _deltas(plain)
    await world.rows(2)


async def test_another_node_answers_when_one_is_dead_busy_or_cannot_load(start: Start, fake: FakeOllama) -> None:
    other = FakeOllama()
    await other.start()
    async with start([fake.url, other.url]) as world:
        key = await world.create_key(rate_limit_per_min=1_000)
        for behaviour in (
            Behaviour(drop_after_chunks=0),
            Behaviour(queue_full=True),
            Behaviour(load_failure=True),
            Behaviour(status=404, error="model 'llama3.2:3b' not found"),
        ):
            for faulty in (fake, other):
                faulty.behaviour = behaviour
                for _ in range(4):
                    reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())
                    assert reply.status_code == 200, (behaviour, reply.text)
                faulty.behaviour = Behaviour()
        await other.stop()
        replies = [await world.http.post(world.url + CHAT, headers=bearer(key), json=chat()) for _ in range(8)]
        assert {reply.status_code for reply in replies} == {200}
        rows = await world.rows(4 * 2 * 4 + 8)
        assert all(row["status"] == "ok" for row in rows)
        assert {row["backend"] for row in rows[-8:]} == {fake.url.removeprefix("http://")}
    await other.stop()


async def test_a_model_whose_only_node_is_away_is_not_called_unknown(start: Start, fake: FakeOllama) -> None:
    other = FakeOllama(models=tuple(model for model in MODELS if model.name != "llama3.2:3b"))
    await other.start()
    async with start([fake.url, other.url]) as world:
        key = await world.create_key()
        assert (await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())).status_code == 200
        await fake.stop()
        async with asyncio.timeout(NOTICED_S):
            while "down" not in (await world.http.get(f"{world.url}/ready")).json()["backends"].values():
                pass
        reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())
        assert (reply.status_code, _code(reply)) == (503, "no_backend")
        nobody_has = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(model="nope"))
        assert (nobody_has.status_code, _code(nobody_has)) == (404, "model_not_found")
        await world.rows(1)
    await other.stop()


async def test_no_node_at_all_is_503_and_costs_nothing(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(rate_limit_per_min=20)
    await fake.stop()
    first = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())
    assert first.status_code in (502, 503)  # 502 until the gateway has noticed
    async with asyncio.timeout(NOTICED_S):
        while "down" not in (await world.http.get(f"{world.url}/ready")).json()["backends"].values():
            pass
    for path, body in ((CHAT, chat()), (PLAIN, {"prompt": "hi", "model": "llama3.2:3b"})):
        reply = await world.http.post(world.url + path, headers=bearer(key), json=body)
        assert (reply.status_code, _code(reply)) == (503, "no_backend")
        assert int(reply.headers["retry-after"]) > 0
    stranger = await world.http.post(world.url + CHAT, headers=bearer("llm_nobody"), json=chat())
    assert stranger.status_code == 401
    assert len(await world.rows(int(first.status_code == 502))) <= 1


async def test_absurd_counts_can_neither_empty_an_account_nor_lose_a_row(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(credits=9, monthly_token_limit=5_000)
    lies = [
        {"eval_count": 2**31},
        {"eval_count": 10**30},
        {"prompt_eval_count": 100_000, "eval_count": 1},
        {"eval_count": 3, "eval_duration": 2_500_000_000_000_000_000},
        {"eval_count": 3, "done_reason": "st\0op" + "x" * 1_000},
        {"eval_count": -5},
    ]
    answered = []
    for lie in lies:
        last = {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": True, "prompt_eval_count": 7}
        body = json.dumps(last | lie)
        response = {"status": 200, "headers": [["Content-Type", "application/json"]], "body": body}
        fake.replay("/api/chat", response)
        reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(max_tokens=100))
        if reply.status_code == 200:
            answered.append(reply.json()["usage"])
        else:
            assert (reply.status_code, _code(reply)) == (502, "stream_broken"), lie  # no integer at all
    rows = await world.rows(len(lies))
    good = [row for row in rows if row["status"] == "ok"]
    assert len(good) == len(answered) >= len(lies) - 1
    for row, usage in zip(good, answered, strict=True):
        assert (row["prompt_tokens"], row["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
        assert row["completion_tokens"] <= 100
        assert row["prompt_tokens"] <= 5_000
    assert (await world.usage(key))["monthly_tokens"]["spent"] == sum(row["total_tokens"] for row in rows)
    assert not await world.redis.exists("{s00}:usage:dead")


async def test_only_our_own_headers_and_fields_reach_a_node(world: World, fake: FakeOllama) -> None:
    key = await world.create_key()
    body = chat(options={"num_gpu": 1}, MODEL="other", template="x", shift=True, context=[1], user="me")
    headers = bearer(key) | {"Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "Origin": "http://evil", "X-Api-Key": key}
    reply = await world.http.post(world.url + CHAT, headers=headers, json=body)
    assert reply.status_code == 200
    (exchange,) = fake.ledger.inference
    assert set(exchange.headers) == {"host", "content-type", "content-length", "accept", "accept-encoding"}
    assert exchange.headers["accept-encoding"] == "identity"
    assert set(exchange.keys) == {"model", "stream", "messages", "options"}
    assert set(exchange.body["options"]) == {"num_predict"}
    assert key not in json.dumps(exchange.body)
    (row,) = await world.rows(1)
    assert row["end_user"] == "me"


async def test_connections_to_a_node_are_reused(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(rate_limit_per_min=1_000)
    connections = []
    for number in range(20):
        reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(stream=bool(number % 2)))
        assert reply.status_code == 200
        connections.append(fake.ledger.connections)
    assert max(connections) <= 4  # one for calls, two kept by the prober, one to spare
    await world.rows(20)


async def _serves(world: World, fake: FakeOllama, key: str) -> None:
    """A good answer, without which a third failure on end would have the node ejected."""
    fake.behaviour = Behaviour()
    assert (await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())).status_code == 200


def _cost_nothing(rows: list[dict[str, Any]], *, served: int) -> None:
    failed = [row for row in rows if row["status"] != "ok"]
    assert len(failed) == len(rows) - served
    assert all(row["total_tokens"] == row["credits_micro"] == 0 for row in failed)


def _code(reply: httpx.Response) -> str:
    body: dict[str, Any] = reply.json()
    return str(body["error"]["code"] if isinstance(body["error"], dict) else body["code"])


def _deltas(reply: httpx.Response) -> list[Any]:
    events = [event.removeprefix("data: ") for event in reply.text.split("\n\n") if event]
    assert events.pop() == "[DONE]"
    return [json.loads(event)["choices"][0]["delta"] for event in events]
