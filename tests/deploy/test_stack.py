"""compose.yaml, brought up from clean volumes with three replicas: what answers, what can be reached, what cannot."""

import json
import re
import shutil
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.deploy.chats import DIALECTS, SMALL_CHARS, Chat, ask
from tests.deploy.shell import Said, run
from tests.deploy.stack import MODEL, Stack, compose_command, open_ports

FIRST_ANSWER_S_MAX = 60.0
"""from `up` in clean volumes to a whole answer"""
SERVICES = {"caddy", "gateway", "worker", "redis", "postgres", "migrate"}
READ_WAIT_S = 10.0
HIDDEN_PATHS = (
    "/admin", "/admin/", "/admin/api-keys", "//admin/api-keys", "/./admin/api-keys", "/v1/../admin/api-keys",
    "/v1/%2e%2e/admin/api-keys", "/%61dmin/api-keys", "/admin%2fapi-keys", "/ADMIN/api-keys", "/admin;x/api-keys",
    "/admin/api-keys?x=/v1", "/metrics", "/metrics/", "//metrics", "/%6detrics", "/v1/..%2fmetrics", "\\metrics",
)  # fmt: skip
LIES = (
    "X-Forwarded-For: 127.0.0.1",
    "X-Real-IP: 127.0.0.1",
    "Forwarded: for=127.0.0.1",
    "X-Original-URL: /admin/api-keys",
)


async def test_the_first_https_answers_come_within_a_minute_of_up(stack: Stack) -> None:
    stack.until_well("gateway", 3)
    key = str(stack.new_key("first")["key"])
    connector = aiohttp.TCPConnector(ssl=stack.trust())
    async with aiohttp.ClientSession(connector=connector) as session:
        for dialect in DIALECTS:
            for streamed in (False, True):
                chat = Chat(dialect=dialect, streamed=streamed, prompt_chars=SMALL_CHARS)
                outcome = await ask(session, stack.url, key, chat)
                assert not outcome.failure, f"{chat.path}: {outcome.failure}"
                assert outcome.pieces > 1 or not streamed
                if dialect == DIALECTS[0] and streamed:
                    waited_s = time.monotonic() - stack.up_s
    print(f"\nfrom `up --scale gateway=3` in clean volumes to both answers over HTTPS: {waited_s:.1f} s")
    assert waited_s < FIRST_ANSWER_S_MAX


async def test_a_stream_is_passed_on_as_it_comes(stack: Stack) -> None:
    """What the nodes have said arrives, although they say no more."""
    key = str(stack.new_key("unbuffered")["key"])
    body = {"model": MODEL, "messages": [{"role": "user", "content": "why"}], "stream": True}
    for node in ("demo-1", "demo-2"):
        stack.fake("PATCH /_fake/behaviour", {"hang_after_tokens": 3}, node)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=stack.trust())) as session,
            session.post(f"{stack.url}/api/chat", json=body, headers={"x-api-key": key}) as response,
        ):
            for _ in range(3):
                assert not json.loads(await response.content.readline())["done"]
    finally:
        for node in ("demo-1", "demo-2"):
            stack.fake("PATCH /_fake/behaviour", {"hang_after_tokens": None}, node)


def test_nothing_but_caddys_two_ports_can_be_reached(stack: Stack) -> None:
    published = {
        (one["Config"]["Labels"]["com.docker.compose.service"], inner, binding["HostPort"])
        for one in stack.containers()
        for inner, bindings in one["NetworkSettings"]["Ports"].items()
        for binding in bindings or ()
    }
    ours = {str(stack.http_port), str(stack.https_port)}
    assert {(service, inner) for service, inner, _ in published} == {("caddy", "80/tcp"), ("caddy", "443/tcp")}
    assert {port for _, _, port in published} == ours
    opened = open_ports() - stack.ports_before
    print(f"\nports that `up` opened on this machine: {sorted(opened)}")
    assert {stack.http_port, stack.https_port} <= opened
    if stack.alone:
        assert {str(port) for port in opened} == ours


@pytest.mark.parametrize("path", HIDDEN_PATHS)
def test_the_admin_api_and_metrics_are_hidden_whatever_the_path(stack: Stack, path: str) -> None:
    """Also from who has the secret, and claims to come from this machine itself."""
    for host in ("localhost", "gateway:8001"):
        status, text = raw_get(stack, path, host)
        assert status != 200 or "gateway_calls_total" not in text, path
        assert '"key_id"' not in text, path
        # for a host that is not the site's Caddy has an empty answer
        assert status in (308, 400, 401, 404, 421) or (status, text) == (200, ""), f"{path}: {status} {text[:200]}"


def test_the_admin_api_and_metrics_are_there_for_those_inside(stack: Stack) -> None:
    made = stack.new_key("seen from inside")
    assert made["id"] in stack.gateway("keys", "list")
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8001/metrics').read().decode())"
    assert "gateway_calls_total" in stack.exec("gateway", "python3", "-c", code)


def test_plain_http_leads_to_https(stack: Stack) -> None:
    with socket.create_connection(("localhost", stack.http_port), timeout=READ_WAIT_S) as plain:
        plain.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = read_all(plain).decode()
    assert re.match(r"HTTP/1.1 30[18] ", said)
    assert "location: https://localhost/" in said.lower()


def test_up_again_changes_nothing(stack: Stack) -> None:
    def services() -> set[tuple[str, str]]:
        return {(one["Id"], one["State"]["StartedAt"]) for one in stack.containers()}

    before = services()
    stack.up(len(stack.containers("gateway")))
    assert services() == before


def test_every_container_is_locked_down(stack: Stack) -> None:
    containers = stack.containers(running=False)
    assert {one["Config"]["Labels"]["com.docker.compose.service"] for one in containers} >= SERVICES
    for one in containers:
        service, host = one["Config"]["Labels"]["com.docker.compose.service"], one["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert set(host["CapAdd"] or ()) <= ({"NET_BIND_SERVICE"} if service == "caddy" else set()), service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert not host["Privileged"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Config"].get("max-size"), service
        assert not [mount for mount in one["Mounts"] if mount["Source"].endswith(".sock")], service
        secret = [
            name for name in one["Config"]["Env"] if re.search(r"(SECRET|PASSWORD|PEPPER|_URL)=.*[0-9a-f]{32}", name)
        ]
        assert secret == [], service
        if one["State"]["Running"] and service != "caddy":
            assert uid_of(one) > 0, service


def uid_of(container: dict[str, Any]) -> int:
    status = Path(f"/proc/{container['State']['Pid']}/status").read_text("ascii")
    return int(re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)[0])


@pytest.mark.parametrize("missing", ["key_pepper", "redis_url_gateway"])
def test_a_missing_secret_stops_the_start(stack: Stack, tmp_path: Path, missing: str) -> None:
    secrets = copied(stack, tmp_path)
    (secrets / missing).unlink()
    said = started_with(stack, secrets)
    assert said.status != 0
    assert missing.upper() in said.errors + said or missing in said.errors + said


def test_a_secret_from_the_examples_stops_the_start(stack: Stack, tmp_path: Path) -> None:
    secrets = copied(stack, tmp_path)
    (secrets / "admin_secret").unlink()
    (secrets / "admin_secret").write_text("change-me-change-me", "ascii")
    said = started_with(stack, secrets)
    assert said.status != 0
    assert "ADMIN_SECRET" in said.errors + said
    assert "change-me-change-me" not in said.errors + said


def copied(stack: Stack, to: Path) -> Path:
    return Path(shutil.copytree(stack.tree / "secrets", to / "secrets"))


def started_with(stack: Stack, secrets: Path) -> Said:
    """A replica started by compose beside those that run, with other secrets."""
    argv = ("run", "--rm", "--no-deps", "-T", "gateway")
    return stack.compose(*argv, check=False, SECRETS_DIR=str(secrets))


def test_docker_compose_takes_the_file_with_every_profile(stack: Stack) -> None:
    every = "demo,ollama,observability"
    said = stack.compose("config", COMPOSE_PROFILES=every)
    assert {"caddy", "gateway", "prometheus", "grafana", "ollama"} <= set(
        re.findall(r"^  ([\w-]+):$", said, re.MULTILINE)
    )
    assert compose_command()


def test_podman_compose_takes_the_file(stack: Stack, tmp_path: Path) -> None:
    """It has no command that only checks, so it is asked what it would do, of a podman that does nothing."""
    if not shutil.which("podman-compose"):
        pytest.skip("podman-compose is not installed")
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\n[ "$1" != --version ] || echo "podman version 4.3.1"\n', "ascii")
    podman.chmod(0o755)
    argv = ("podman-compose", "--podman-path", str(podman), "--dry-run", "up", "--detach", "--scale", "gateway=2")
    said = run(*argv, "gateway", cwd=stack.tree, env=stack.env, wait_s=READ_WAIT_S * 3, check=False)
    assert said.status == 0, said.errors
    told = said + said.errors
    assert told.count("gateway_") >= 2
    assert "no-new-privileges" in told


def raw_get(stack: Stack, path: str, host: str) -> tuple[int, str]:
    """A request as it stands: no client that would tidy its path."""
    secret = (stack.tree / "secrets/admin_secret").read_text("ascii")
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", f"X-Admin-Secret: {secret}", *LIES, "Connection: close", "", ""]
    with (
        socket.create_connection(("localhost", stack.https_port), timeout=READ_WAIT_S) as plain,
        stack.trust().wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall("\r\n".join(lines).encode())
        head, _, body = read_all(secure).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode("utf-8", "replace")


def read_all(connection: socket.socket) -> bytes:
    parts = []
    with suppress(ssl.SSLEOFError, ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)
