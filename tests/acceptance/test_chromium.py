"""A page of another origin, in a real browser: it reads a stream, its limits and its errors with `fetch` alone."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import chat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HEAD_BYTES_MAX = 65_536
PAGE = b"<!doctype html><meta charset=utf-8><title>elsewhere</title>"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="Chromium is not installed: apt-get install chromium"
)

ASK = """
async ([url, key, body]) => {
  const headers = { "Authorization": `Bearer ${key}`, "Content-Type": "application/json", "X-Stainless-Lang": "js" };
  const reply = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  const reader = reply.body.getReader();
  const decoder = new TextDecoder();
  let text = "", pieces = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += decoder.decode(part.value, { stream: true });
    pieces += 1;
  }
  return { status: reply.status, text, pieces, id: reply.headers.get("x-request-id"),
           left: reply.headers.get("x-ratelimit-remaining-requests"), wait: reply.headers.get("retry-after") };
}
"""


@asynccontextmanager
async def elsewhere() -> AsyncIterator[str]:
    """An origin of its own that serves one empty page."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(PAGE) + PAGE)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def page_of(origin: str) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = await browser.new_page()
            await page.goto(origin)
            yield page
        finally:
            await browser.close()


async def ask(page: Page, url: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(ASK, [f"{url}/v1/chat/completions", key, body])
    return found


async def test_a_page_of_an_allowed_origin_streams_and_reads_limits_and_errors(start: Start, fake: FakeOllama) -> None:
    async with elsewhere() as origin, start([fake.url], CORS_ORIGINS=origin) as world, page_of(origin) as page:
        key = await world.create_key(rate_limit_per_min=1)
        got = await ask(page, world.url, key, chat(stream=True))
        assert got["status"] == 200
        assert got["text"].endswith("data: [DONE]\n\n")
        assert got["text"].count('"content":') >= 5
        assert (got["left"], len(got["id"])) == ("0", 36)

        refused = await ask(page, world.url, key, chat())
        assert (refused["status"], refused["left"]) == (429, "0")
        assert "rate_limit_exceeded" in refused["text"]
        assert int(refused["wait"]) > 0
        stranger = await ask(page, world.url, "nonsense", chat())
        assert (stranger["status"], "invalid_api_key" in stranger["text"]) == (401, True)
        await world.rows(1)


@pytest.mark.parametrize("allowed", ["", "http://somewhere.example"])
async def test_a_page_of_any_other_origin_gets_nothing(start: Start, fake: FakeOllama, allowed: str) -> None:
    async with elsewhere() as origin, start([fake.url], CORS_ORIGINS=allowed) as world, page_of(origin) as page:
        key = await world.create_key()
        with pytest.raises(Exception, match="Failed to fetch"):
            await ask(page, world.url, key, chat())
        assert not fake.ledger.inference
        assert await world.rows(0) == []


async def test_every_origin_may_call_where_the_operator_says_so(start: Start, fake: FakeOllama) -> None:
    async with elsewhere() as origin, start([fake.url], CORS_ORIGINS="*") as world, page_of(origin) as page:
        got = await ask(page, world.url, await world.create_key(), chat(stream=True))
        assert (got["status"], "[DONE]" in got["text"]) == (200, True)
        await world.rows(1)
