"""Spans, from the client's context through the gateway's to what a backend is told; and contexts without any spans."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core import keys
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.collector import Collector, Span, collecting
from tests.nodes import nodes
from tests.world import World, bearer, chat

CHAT = "/v1/chat/completions"
MODEL = "llama3.2:3b"
PROMPT, ANSWER = "a canary of a prompt", "a canary of an answer"
TRACE_ID, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01", "tracestate": "vendor=1"}
PHASES = ["queue", "load and prompt", "generation"]


@asynccontextmanager
async def traced(start: Start, urls: list[str], **env: str) -> AsyncIterator[tuple[World, Collector]]:
    async with collecting() as collector:
        asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50", **env}
        async with start(urls, **asked) as world:
            yield world, collector


def below(spans: list[Span], parent: Span) -> list[Span]:
    return sorted(
        (one for one in spans if one.parent_id == parent.span_id), key=lambda one: (one.from_ms, one.until_ms)
    )


async def test_a_call_is_one_span_between_the_clients_and_the_backends(start: Start, fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(text=ANSWER, first_byte_ms=60)
    async with traced(start, [fake.url], OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test") as (world, it):
        key = await world.create_key()
        before_ms = time.time_ns() // 1_000_000
        reply = await world.http.post(
            world.url + CHAT, headers=bearer(key) | SAMPLED, json=chat(PROMPT, stream=True, user=PROMPT)
        )
        assert reply.status_code == 200
        spans = await it.until(lambda spans: len(spans) == 1 + len(PHASES))
        (own,) = [one for one in spans if one.kind == "server"]
        assert (own.trace_id, own.parent_id, own.state) == (TRACE_ID, CALLER, "vendor=1")
        assert (own.name, own.failed) == (f"chat {MODEL}", False)
        (row,) = await world.rows(1)
        assert own.about == {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": MODEL,
            "gen_ai.provider.name": "ollama",
            "gen_ai.usage.input_tokens": row["prompt_tokens"],
            "gen_ai.usage.output_tokens": row["completion_tokens"],
            "gen_ai.response.finish_reasons": ["stop"],
            "gateway.backend": row["backend"],
            "http.request.method": "POST",
            "http.route": CHAT,
            "http.response.status_code": 200,
            "gateway.request_id": reply.headers["x-request-id"],
        }
        assert own.resource["service.name"] == "llm-gateway"
        assert own.resource["deployment.environment.name"] == "test"
        assert before_ms <= own.from_ms <= own.until_ms <= time.time_ns() // 1_000_000
        children = below(spans, own)
        assert [one.name for one in children] == PHASES
        assert all(own.from_ms <= one.from_ms <= one.until_ms <= own.until_ms for one in children)
        assert children[1].until_ms - children[1].from_ms >= 50, "the first byte took 60 ms"
        (asked,) = fake.ledger.inference
        assert asked.headers["traceparent"] == f"00-{TRACE_ID}-{own.span_id}-01", "the backend's parent is our span"
        assert asked.headers["tracestate"] == "vendor=1"
        assert f'"trace_id":"{TRACE_ID}"' in world.log("replica-0")
        for secret in (b"canary", keys.id_of(key).encode(), b"127.0.0.1:0"):
            assert secret not in it.raw


async def test_a_failed_attempt_and_a_failed_call_are_told(start: Start) -> None:
    async with nodes(2) as fleet, traced(start, fleet.urls, OLLAMA_SLOTS="4") as (world, it):
        key = await world.create_key(rate_limit_per_min=2)
        statuses = []
        for _ in range(3):
            reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())
            statuses.append(reply.status_code)
            if len(statuses) == 1:
                (row,) = await world.rows(1)
                (bad,) = [node for node in fleet if node.url.endswith(row["backend"])]
                bad.behaviour = Behaviour(drop_after_chunks=0)
        assert statuses == [200, 200, 429]
        spans = await it.until(lambda spans: sum(one.kind == "server" for one in spans) == 3)
        roots = [one for one in spans if one.kind == "server"]
        assert ({one.parent_id for one in roots}, len({one.trace_id for one in roots})) == ({""}, 3)
        assert [one.about["http.response.status_code"] for one in roots] == statuses
        assert roots[2].about["error.type"] == "rate_limit_exceeded"
        assert not any(one.failed for one in roots), "the client's mistakes are not ours"
        (failed,) = [one for one in spans if one.name == "failed attempt"]
        assert (failed.failed, failed.parent_id) == (True, roots[1].span_id)
        assert failed.about == {"server.address": row["backend"], "error.type": "backend_unreachable"}
        told = [exchange.headers["traceparent"].split("-")[1] for exchange in fleet.inference]
        assert sorted(told) == sorted([roots[0].trace_id, *[roots[1].trace_id] * 2])


async def test_who_is_not_sampled_or_has_no_key_makes_no_spans(start: Start, fake: FakeOllama) -> None:
    async with traced(start, [fake.url]) as (world, it):
        key, stranger = await world.create_key(), keys.mint("llm", bytes(range(32)))
        unsampled = SAMPLED | {"traceparent": f"00-{TRACE_ID}-{CALLER}-00"}
        await world.http.post(world.url + CHAT, headers=bearer(key) | unsampled, json=chat())
        await world.http.post(world.url + CHAT, headers=bearer(stranger) | SAMPLED, json=chat())
        await world.http.post(world.url + CHAT, headers=bearer(key), json={})
        await world.http.post(world.url + CHAT, headers=bearer(key) | {"traceparent": "no"}, json=chat())
        spans = await it.until(lambda spans: any(one.kind == "server" for one in spans))
        assert {one.trace_id for one in spans} != {TRACE_ID}
        assert len([one for one in spans if one.kind == "server"]) == 1
        asked = [exchange.headers["traceparent"] for exchange in fake.ledger.inference]
        assert asked[0].startswith(f"00-{TRACE_ID}-") and asked[0].endswith("-00")
        assert CALLER not in asked[0], "a span that nobody keeps is a span all the same"


async def test_without_spans_the_context_is_passed_on_as_it_is(world: World, fake: FakeOllama) -> None:
    key = await world.create_key()
    for headers in (SAMPLED, {"traceparent": "hello", "tracestate": "vendor=1"}, {}):
        await world.http.post(world.url + CHAT, headers=bearer(key) | headers, json=chat())
    assert [
        {name: value for name, value in exchange.headers.items() if name.startswith("trace")}
        for exchange in fake.ledger.inference
    ] == [SAMPLED, {}, {}]
    assert world.log("replica-0").count(f'"trace_id":"{TRACE_ID}"') == 1


async def test_a_collector_that_is_away_harms_no_call(start: Start, fake: FakeOllama) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "10"}
    async with start([fake.url], OTEL_EXPORTER_OTLP_TIMEOUT="1", **env) as world:
        key = await world.create_key()
        for streamed in (False, True):
            reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat(stream=streamed))
            assert reply.status_code == 200
        await world.rows(2)
        assert await world.replicas[0][0].stop() == 0
    lines = [json.loads(line) for line in world.log("replica-0").splitlines()]
    assert "stopped" in [line["event"] for line in lines]
    complaints = [line for line in lines if line["event"] == "traces"]
    assert len({line["kind"] for line in complaints}) == len(complaints) > 0
    assert "127.0.0.1" not in str(complaints)
