"""`llm-gateway health` says what a container's HEALTHCHECK is to know, by its exit code and in one line."""

import asyncio
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start

NOT_NEEDED = ("msgspec", "asyncio", "redis", "litestar", "http.client", "urllib.request", "ssl")
"""modules whose import would cost more than the question"""


async def health(directory: Path, *flags: str, **env: str) -> tuple[int, str]:
    """Exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "health", *flags,
        cwd=directory, env={"PYTHONPATH": str(Path(__file__).parents[2]), **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_it_tells_ready_from_not_ready_and_from_nobody_there(
    start: Start, fake: FakeOllama, tmp_path: Path
) -> None:
    worker_port = str(_free_port())
    async with start([fake.url], WORKER_PORT=worker_port) as world:
        port = str(urlsplit(world.url).port)
        for host in ("127.0.0.1", "0.0.0.0"):
            code, said = await health(tmp_path, HOST=host, PORT=port)
            assert (code, said.startswith('200 {"ready":true'), said.count("\n")) == (0, True, 1)
        (tmp_path / ".env").write_text(f"PORT={port}")
        assert (await health(tmp_path, HOST="127.0.0.1"))[0] == 0
        (tmp_path / ".env").unlink()
        code, said = await health(tmp_path, "--worker", HOST="127.0.0.1", WORKER_PORT=worker_port)
        assert (code, said) == (0, '200 {"status":"ok","loops":[]}\n')
        await world.workers[0].stop()
        await world.redis.flushall()
        code, said = await health(tmp_path, HOST="127.0.0.1", PORT=port)
        assert (code, said.startswith('503 {"ready":false')) == (1, True)
    code, said = await health(tmp_path, HOST="127.0.0.1", PORT=port)
    assert (code, said) == (1, "no answer: [Errno 111] Connection refused\n")


async def test_what_keeps_it_from_asking_is_one_line(tmp_path: Path) -> None:
    code, said = await health(tmp_path, "--worker")
    assert (code, said) == (1, "WORKER_PORT is 0: a worker without a port cannot be asked\n")
    code, said = await health(tmp_path, PORT="x")
    assert (code, said) == (2, "PORT: must be a whole number\n")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 503 x\r\n\r\nno\nnot\nyet"])
async def test_any_other_answer_is_a_no(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        code, said = await health(tmp_path, HOST="127.0.0.1", PORT=str(port))
    assert (code, said) == (1, "503 no not yet\n" if b"503" in answer else "no answer: it speaks no HTTP\n")


async def test_it_imports_little() -> None:
    """It runs every few seconds in every container."""
    code = (
        "import os, sys; os.environ.update(HOST='127.0.0.1', PORT='1')\n"
        "from gateway.cli.main import main\n"
        "assert main(['health']) == 1\n"
        f"print([name for name in {NOT_NEEDED} if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd="/", env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert said.decode().splitlines()[-1] == "[]"


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
