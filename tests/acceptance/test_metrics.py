"""What replicas and workers tell Prometheus: every figure after real calls, and never more series for made-up names."""

import asyncio
import json
import random
import socket
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from gateway.core import keys
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.worker import WorkerMetrics
from tests.acceptance.conftest import Start
from tests.world import World, bearer, chat

MODEL = "llama3.2:3b"
PROMPT, ANSWER = "a canary of a prompt", "a canary of an answer"
STRANGERS = 200
COME_WITH_TIME = {"gateway_redis_seconds", "gateway_backend"}
"""families of which a replica finds something new by itself: a function that it calls every so often, a loaded model"""
CHAT = "/v1/chat/completions"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(world: World, url: str) -> Samples:
    text = (await world.http.get(f"{url}/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(world: World, url: str, there: Callable[[Samples], bool]) -> Samples:
    async with asyncio.timeout(10):
        while not there(found := await scraped(world, url)):
            await asyncio.sleep(0.02)
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """The sum over all series that have these labels; None: there is none."""
    found = [one for (what, of), one in samples.items() if what == name and labels.items() <= dict(of).items()]
    return sum(found) if found else None


async def test_every_metric_tells_of_real_calls(start: Start, fake: FakeOllama) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with start([fake.url], WORKER_PORT=str(port)) as world:
        key = await world.create_key(rate_limit_per_min=4)
        for body in (chat(), chat(stream=True), chat(model="no-such-model")):
            await world.http.post(world.url + CHAT, headers=bearer(key), json=body)
        embedded = {"model": "nomic-embed-text", "input": "Why?"}
        await world.http.post(world.url + "/v1/embeddings", headers=bearer(key), json=embedded)
        fake.behaviour = Behaviour(truncate=True)
        await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(stream=True))
        await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())
        await world.rows(4)
        seen = await scraped(world, world.url)
        _check_replica(seen)
        told = await until(world, f"http://127.0.0.1:{port}", _has_looked)
        _check_worker(told)
        _holds_all(seen, Metrics())
        _holds_all(told, WorkerMetrics())


def _check_replica(seen: Samples) -> None:
    of_model = {"gen_ai_operation_name": "chat", "gen_ai_request_model": MODEL}
    took = "gen_ai_server_request_duration_seconds"
    assert value(seen, f"{took}_count", **of_model, error_type="") == 2
    assert value(seen, f"{took}_count", **of_model, error_type="stream_broken") == 1
    assert value(seen, f"{took}_count", gen_ai_operation_name="embeddings") == 1
    assert value(seen, "gen_ai_server_time_to_first_token_seconds_count", **of_model) == 1
    assert value(seen, "gen_ai_server_time_per_output_token_seconds_count", **of_model) == 1
    for kind in ("input", "output"):
        assert (value(seen, "gen_ai_client_token_usage_sum", **of_model, gen_ai_token_type=kind) or 0) > 2
    assert value(seen, "gateway_overhead_seconds_count") == 4
    assert value(seen, "gateway_wait_seconds_count", model=MODEL) == 3
    assert value(seen, "gateway_refusals_total", code="rate_limit_exceeded") == 1
    assert value(seen, "gateway_refusals_total", code="model_not_found") == 1
    assert (value(seen, "gateway_redis_seconds_count", function="admit") or 0) >= 6
    assert value(seen, "gateway_redis_seconds_count", function="settle") == 4
    assert (value(seen, "gateway_postgres_seconds_count") or 0) > 0
    assert None not in (value(seen, "gateway_redis_failures_total"), value(seen, "gateway_postgres_failures_total"))
    assert value(seen, "gateway_info") == 1


def _has_looked(told: Samples) -> bool:
    """The worker has stored all rows, and has looked at the stream since there is one."""
    weighed = (value(told, "gateway_worker_stream_bytes", shard="0") or 0) > 0
    return weighed and value(told, "gateway_worker_rows_total") == 4


def _check_worker(told: Samples) -> None:
    assert value(told, "gateway_worker_stream_bytes_max") == 256 * 2**20
    assert (value(told, "gateway_redis_seconds_count", function="memory") or 0) > 0
    assert (value(told, "gateway_postgres_seconds_count") or 0) > 0
    assert value(told, "gateway_info") == 1


def _holds_all(seen: Samples, metrics: Metrics | WorkerMetrics) -> None:
    """Whatever has no labels is told from the start."""
    bare = {sample.name for metric in metrics.registry.collect() for sample in metric.samples if not sample.labels}
    assert bare <= {name for name, _ in seen}


async def test_strangers_make_no_series(world: World, seed: str) -> None:
    """Made-up models, keys, paths and traces: what is counted of them is counted under names of our own."""
    key = await world.create_key(rate_limit_per_min=100_000)
    urls = [world.url + path for path in (CHAT, "/generate/x", "/nothing")]
    await _strange(world, key, random.Random(seed), 3)
    for url in urls:
        await world.http.post(url, headers=bearer(key), json=chat())
    before = set(await scraped(world, world.url))
    await _strange(world, key, random.Random(f"{seed}!"), STRANGERS)
    after = set(await scraped(world, world.url))
    assert {name.rpartition("_")[0] for name, _ in after - before} <= COME_WITH_TIME
    assert "made-up" not in str(after)


async def _strange(world: World, key: str, chance: random.Random, count: int) -> None:
    async def one() -> None:
        name = f"made-up-{chance.getrandbits(64):x}"
        stranger = keys.mint("llm", chance.randbytes(32))
        for path, headers, body in (
            (CHAT, bearer(key) | {"x-request-id": name, "traceparent": name}, chat(model=name, user=name)),
            (f"/generate/{name}", bearer(stranger), {"prompt": "Why?"}),
            (f"/{name}", bearer(name), chat()),
        ):
            await world.http.post(world.url + path, headers=headers, json=body)

    await asyncio.gather(*(one() for _ in range(count)))


async def test_nothing_tells_a_prompt_an_answer_a_key_or_an_address(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], TRUSTED_PROXIES="127.0.0.1") as world:
        fake.behaviour = Behaviour(text=ANSWER)
        key, stranger = await world.create_key(), keys.mint("llm", bytes(range(32)))
        address = "203.0.113.77"
        for presented, body in (
            (key, chat(PROMPT)),
            (key, chat(PROMPT, stream=True, user=PROMPT)),
            (key, chat(PROMPT, model=f"{PROMPT}".replace(" ", "-"))),
            (key, {"model": MODEL, "messages": PROMPT}),
            (stranger, chat(PROMPT)),
        ):
            headers = bearer(presented) | {"x-forwarded-for": address, "tracestate": "a=secret-of-theirs"}
            await world.http.post(world.url + CHAT, headers=headers, json=body)
        await world.rows(2)
        said = world.log("replica-0") + world.log("worker-0") + (await world.http.get(f"{world.url}/metrics")).text
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines].count("call") == 2
    refused = [line for line in lines if line["event"] == "refused"]
    assert len(refused) == 3
    assert sum("key_id" in line for line in refused) == 1, "of the model that is not there"
    words = ["canary", "secret-of", address, _secret(key), _secret(stranger)]
    words.append(keys.id_of(stranger) or "")
    assert not [word for word in words if word in said]
    assert keys.id_of(key) in said


def _secret(key: str) -> str:
    """The part of a key that nobody but its holder knows."""
    return key.partition(keys.id_of(key) or "")[2]
