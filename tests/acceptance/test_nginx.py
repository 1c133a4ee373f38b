"""deploy/nginx in front of two replicas: the real nginx with these very files, as clients on the internet meet it."""

import asyncio
import json
import os
import shutil
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
import redis
from msgspec import Struct

from gateway.dev.engines import Server
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.settings import Settings
from tests.conftest import administer
from tests.nginx import FILES, NAME, OPERATOR, PROGRAM, Nginx
from tests.world import ADMIN_SECRET, World, bearer, chat, running

BODY_BYTES_MAX = 10 * 1024 * 1024
CALL = "/v1/chat/completions"
CLIENTS = 8
NEWCOMERS = 260
"""more than may come at once (200), and than come to be allowed while they are let in"""
TOKENS = 20
DATABASE = "behind_nginx"
HIDDEN = (
    "/admin", "/admin/", "/admin/api-keys", "//admin/api-keys", "/./admin/api-keys", "/v1/../admin/api-keys",
    "/v1//..//admin/api-keys", "/%61dmin/api-keys", "/v1/%2e%2e/admin/api-keys", "/v1%2f..%2fadmin/api-keys",
    "/ADMIN/api-keys", "/admin%2fapi-keys", "/admin;a=b/api-keys", "/admin/api-keys?x=/v1",
    "/metrics", "/metrics/", "//metrics", "/Metrics", "/%6detrics", "/v1/../metrics", "/metrics?x",
)  # fmt: skip

pytestmark = [
    pytest.mark.skipif(
        not PROGRAM and not os.environ.get("CI"), reason="there is no nginx here: apt-get install nginx-light openssl"
    ),
    pytest.mark.asyncio(loop_scope="module"),
]


class Site(Struct):
    world: World
    nginx: Nginx
    fake: FakeOllama
    key: str
    client: httpx.AsyncClient
    """from 127.0.0.1"""

    async def ask(self, client: httpx.AsyncClient | None = None, key: str = "", **more: str) -> httpx.Response:
        headers = bearer(key or self.key) | more
        return await (client or self.client).post(CALL, json=chat(), headers=headers)

    @asynccontextmanager
    async def client_at(self, address: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client whose connections come from an address of its own."""
        transport = httpx.AsyncHTTPTransport(verify=self.nginx.trust(), local_address=address)
        async with httpx.AsyncClient(base_url=self.nginx.url, transport=transport, timeout=60) as client:
            yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(redis_server: Server, postgres_server: Server) -> AsyncIterator[Site]:
    with redis.Redis.from_url(redis_server.url) as store:
        store.flushall()
        store.function_flush()
    directory = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    directory.chmod(0o755)  # nginx' own user has to get to what nginx keeps there
    fake = FakeOllama()
    await fake.start()
    await administer(postgres_server.url, f"CREATE DATABASE {DATABASE}")
    database_url = urlsplit(postgres_server.url)._replace(path=f"/{DATABASE}").geturl()
    settings = {"TRUSTED_PROXIES": "127.0.0.1/32", "BALANCER_SECONDS": "0.8", "REDIS_TIMEOUT_MS": "5000"}
    try:
        async with running(World(redis_server.url, database_url, [fake.url], directory, **settings), 2) as world:
            nginx = Nginx(directory / "nginx", [url for _, url in world.replicas])
            key = await world.create_key(rate_limit_per_min=None)
            try:
                await nginx.start()
                async with httpx.AsyncClient(base_url=nginx.url, verify=nginx.trust(), timeout=60) as client:
                    yield Site(world, nginx, fake, key, client)
            finally:
                await nginx.stop()
    finally:
        await fake.stop()
        await administer(postgres_server.url, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        shutil.rmtree(directory, ignore_errors=True)


async def test_a_call_is_answered_and_says_its_id(site: Site) -> None:
    site.fake.behaviour = Behaviour()
    reply = await site.ask()
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"]
    rows = await site.world.rows_when_settled()
    assert str(rows[-1]["id"]) == reply.headers["x-request-id"]
    assert reply.headers["strict-transport-security"] == "max-age=63072000"


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
async def test_http2_is_spoken(site: Site) -> None:
    said = '{"model": "llama3.2:3b", "prompt": "Why?"}'
    # fmt: off
    asking = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--http2", "--cacert", str(site.nginx.certificate), "--write-out", "\n%{http_version}",
        "--header", f"X-API-Key: {site.key}", "--json", said, f"{site.nginx.url}/v1/generate",
        stdout=asyncio.subprocess.PIPE,
    )
    # fmt: on
    out, _ = await asking.communicate()
    body, version = out.decode().rsplit("\n", 1)
    assert version == "2"
    assert json.loads(body)["response"]


@pytest.mark.parametrize("path", [CALL, "/api/chat"])
async def test_tokens_arrive_as_they_are_made(site: Site, path: str) -> None:
    site.fake.behaviour = Behaviour(tokens=TOKENS, tokens_per_s=40)
    made_meanwhile: list[int] = []
    headers = bearer(site.key)
    async with site.client.stream("POST", path, headers=headers, json=chat(stream=True)) as reply:
        async for line in reply.aiter_lines():
            if "content" in line:
                made_meanwhile.append(site.fake.ledger.exchanges[-1].tokens_sent)
    site.fake.behaviour = Behaviour()
    print(f"\ntokens made when each line arrived: {made_meanwhile}")
    assert made_meanwhile[0] < TOKENS
    assert len(set(made_meanwhile)) > TOKENS // 4  # not a few heaps of them


async def test_a_new_certificate_cuts_no_stream(site: Site) -> None:
    site.fake.behaviour = Behaviour(tokens=TOKENS, tokens_per_s=40)
    lines: list[str] = []
    async with site.client.stream("POST", CALL, headers=bearer(site.key), json=chat(stream=True)) as reply:
        async for line in reply.aiter_lines():
            if not lines:
                site.nginx.reload()
            lines += [line] if line else []
    site.fake.behaviour = Behaviour()
    assert lines[-1] == "data: [DONE]"
    assert (await site.ask()).status_code == 200


async def test_a_body_that_is_too_large_is_refused_in_words_and_never_sent_on(site: Site) -> None:
    for path in (CALL, "/v1/messages"):
        reply = await site.client.post(path, content=b" " * (BODY_BYTES_MAX + 1), headers=bearer(site.key))
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (413, "body_too_large")
        assert error["message"].endswith("than the server in front of this gateway takes.")
        assert reply.json()["type"] == "error"  # as Anthropic's clients want it
        assert reply.headers["x-request-id"]
    taken = await site.client.post(CALL, content=b" " * BODY_BYTES_MAX, headers=bearer(site.key))
    assert (taken.status_code, "BODY_BYTES_MAX" in taken.json()["error"]["message"]) == (413, True)  # by the gateway


async def test_admin_and_metrics_are_not_there_however_they_are_spelt(site: Site) -> None:
    there = await site.world.http.get(f"{site.world.url}/admin/api-keys", headers={"X-Admin-Secret": ADMIN_SECRET})
    assert there.status_code == 200
    for path in HIDDEN:
        for method in ("GET", "POST"):
            status, body = await _raw(site, method, path)
            assert status == 404, (method, path, body)
            assert json.loads(body)["error"]["code"] == "route_not_found", (method, path)


async def _raw(site: Site, method: str, path: str) -> tuple[int, bytes]:
    """The answer to a request whose path goes out as it is."""
    context = site.nginx.trust()
    reader, writer = await asyncio.open_connection(NAME, site.nginx.https_port, ssl=context, server_hostname=NAME)
    head = f"{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nX-Admin-Secret: {ADMIN_SECRET}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: 0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    start, body = answer.split(b"\r\n\r\n", 1)
    return int(start.split()[1]), body


async def test_operators_named_in_the_file_reach_admin_and_metrics(site: Site) -> None:
    secret = {"X-Admin-Secret": ADMIN_SECRET}
    async with site.client_at(OPERATOR) as operator, site.client_at("127.0.0.8") as other:
        for path in ("/admin/api-keys", "/metrics"):
            assert (await operator.get(path, headers=secret)).status_code == 200
            assert (await other.get(path, headers=secret)).status_code == 404
        assert (await operator.get("/admin/api-keys")).status_code == 401


async def test_the_clients_address_arrives_and_cannot_be_made_up(site: Site) -> None:
    key = await site.world.create_key(rate_limit_per_min=None, networks=["127.0.0.2/32"])
    async with site.client_at("127.0.0.2") as known, site.client_at("127.0.0.3") as other:
        assert (await site.ask(known, key)).status_code == 200
        told = {"X-Forwarded-For": "127.0.0.2", "Forwarded": "for=127.0.0.2", "X-Real-IP": "127.0.0.2"}
        for headers in ({}, told):
            refused = await site.ask(other, key, **headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "address_not_allowed")


async def test_too_many_new_connections_of_one_address_are_refused_and_others_are_not(site: Site) -> None:
    context = site.nginx.trust()
    where: dict[str, Any] = {"ssl": context, "server_hostname": NAME, "local_addr": ("127.0.0.9", 0)}
    opened = []
    for _ in range(NEWCOMERS):  # before the first asks: what counts is when they ask
        opened.append(await asyncio.open_connection("127.0.0.1", site.nginx.https_port, **where))
    for _, writer in opened:
        writer.write(f"GET /health HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
    answers = await asyncio.gather(*(reader.read() for reader, _ in opened))
    for _, writer in opened:
        writer.close()
    counts = Counter(int(answer.split()[1]) for answer in answers)
    print(f"\n{NEWCOMERS} new connections of one address: {dict(counts)}")
    assert set(counts) == {200, 429}
    refused = next(answer for answer in answers if answer.startswith(b"HTTP/1.1 429"))
    assert b"\r\nRetry-After: 1\r\n" in refused
    assert (await site.ask()).status_code == 200


async def test_plain_http_leads_browsers_on_and_refuses_calls(site: Site) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.nginx.http_port}") as plain:
        page = await plain.get("/docs?x=1", headers={"Host": NAME})
        assert (page.status_code, page.headers["location"]) == (308, f"https://{NAME}/docs?x=1")
        call = await plain.post(CALL, json=chat(), headers=bearer(site.key))
        assert (call.status_code, call.json()["error"]["code"]) == (403, "https_required")


async def test_another_name_gets_no_certificate(site: Site) -> None:
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection(
            "127.0.0.1", site.nginx.https_port, ssl=site.nginx.trust(), server_hostname="gateway.other"
        )


async def test_nginx_waits_longer_than_the_gateway_itself() -> None:
    text = (FILES / "llm-gateway.conf").read_text()
    wait_s = int(text.split("proxy_read_timeout ")[1].split("s;")[0])
    assert wait_s > Settings().ollama_total_timeout + Settings().queue_seconds_max
    assert "client_max_body_size 10m;" in text
    assert Settings().body_bytes_max < BODY_BYTES_MAX


async def test_no_call_fails_while_each_replica_is_restarted(site: Site) -> None:
    restarted = asyncio.Event()
    callers = [asyncio.create_task(_answers(site, restarted)) for _ in range(CLIENTS)]
    for replica, _ in site.world.replicas:
        assert await replica.stop() == 0
        replica.spawn()
        await site.world.ready()
    restarted.set()
    answers = sum(await asyncio.gather(*callers), Counter())
    print(f"\ncalls while two replicas were restarted: {dict(answers)}")
    assert set(answers) == {"200"}


async def _answers(site: Site, ended: asyncio.Event) -> Counter[str]:
    """How often one client that asks on and on got what: 200, or the words of what went wrong."""
    got: Counter[str] = Counter()
    while not ended.is_set():
        reply = await site.ask()
        got["200" if reply.status_code == 200 else reply.text] += 1
    return got
