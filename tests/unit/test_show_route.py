"""/api/show reads its body through the intake of calls: bounded in time, and with all that are on their way."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from litestar import Litestar

from gateway.errors import Unauthorized
from gateway.telemetry.logs import Log
from gateway.web import models
from gateway.web.body import Intake
from gateway.web.rendering import exception_handlers

KEY = b"llm-0123456789abcdef"


class Inspector:
    async def inspect(self, credential: Any, source: str) -> Any:
        """Knows every key."""
        return SimpleNamespace(models=())


class Door:
    def presented(self, scope: Any) -> tuple[None, str]:
        """Any header is a key."""
        if not scope["headers"]:
            raise Unauthorized
        return None, ""


@pytest.fixture
def app() -> Litestar:
    log = Log(lambda: 0.0, debug=False)
    made = Litestar([models.show], exception_handlers=exception_handlers(log, lambda: "id"), openapi_config=None)
    made.state.public = SimpleNamespace(inspector=Inspector(), door=Door(), snapshot=list, intake=Intake(1_000))
    return made


async def status(app: Litestar, receive: Callable[[], Any]) -> int:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
             "path": "/api/show", "raw_path": b"/api/show", "query_string": b"", "root_path": "", "client": None,
             "server": None, "headers": [(b"x-api-key", KEY)]}  # fmt: skip
    async with asyncio.timeout(10):
        await app(scope, receive, send)  # type: ignore[arg-type]
    return int(sent[0]["status"])


async def never() -> Any:
    await asyncio.Event().wait()


async def test_a_body_that_does_not_come_is_not_waited_for(app: Litestar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.body.BODY_S", 0.01)
    assert await status(app, never) == 408


async def test_all_bodies_on_their_way_are_bounded_together(app: Litestar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.body.ARRIVING_BYTES_MAX", 10)

    async def receive() -> Any:
        return {"type": "http.request", "body": b" " * 11, "more_body": True}

    assert await status(app, receive) == 503
