"""A receiver of spans over OTLP/HTTP, in the test's own process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status

WAIT_S = 20.0
NS_PER_MS = 1_000_000


class Span(Struct, kw_only=True):
    """One span as it arrived; ids in hex, times in ms since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    kind: str
    from_ms: int
    until_ms: int
    failed: bool
    about: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.raw = b""
        self._news = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        asked = ExportTraceServiceRequest.FromString(body)
        async with self._news:
            self.raw += body
            for group in asked.resource_spans:
                resource = _attributes(group.resource.attributes)
                self.spans += [_span(one, resource) for scope in group.scope_spans for one in scope.spans]
            self._news.notify_all()
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def until(self, there: Callable[[list[Span]], Any]) -> list[Span]:
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: there(self.spans))
        return self.spans


def _span(one: Sent, resource: dict[str, Any]) -> Span:
    return Span(
        name=one.name,
        trace_id=one.trace_id.hex(),
        span_id=one.span_id.hex(),
        parent_id=one.parent_span_id.hex(),
        state=one.trace_state,
        kind=Sent.SpanKind.Name(one.kind).removeprefix("SPAN_KIND_").lower(),
        from_ms=one.start_time_unix_nano // NS_PER_MS,
        until_ms=one.end_time_unix_nano // NS_PER_MS,
        failed=one.status.code == Status.STATUS_CODE_ERROR,
        about=_attributes(one.attributes),
        resource=resource,
    )


def _attributes(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()
