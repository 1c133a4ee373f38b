"""LiteLLM's proxy as a peer, in a virtual environment of its own that is made where there is none."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import httpx

from gateway.dev.places import CannotStart, free_port
from gateway.dev.process import Child
from tests.bench.load import Address

NAME = "litellm"
PACKAGE = "litellm[proxy]"
KEY = "sk-a-key-for-benchmarks-only"
INSTALL_S = 900.0
START_S = 120.0
POLL_S = 0.2
HOST = "127.0.0.1"


def cache() -> Path:
    """Where its environment is kept between runs."""
    return Path(os.environ.get("BENCH_CACHE") or Path(tempfile.gettempdir()) / "llm-gateway-bench")


async def installed() -> Path:
    """The program, installed if it is not yet. Raises `CannotStart` when it cannot be."""
    place = cache() / NAME
    program = place / "bin" / "litellm"
    if not program.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        await _done(sys.executable, "-m", "venv", "--clear", str(place))
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        await _done(*pip, "install", PACKAGE)
    return program


async def version() -> str:
    return await _done(
        str(cache() / NAME / "bin" / "python"), "-c", f"import importlib.metadata as m; print(m.version({NAME!r}))"
    )


class LiteLlm:
    """One worker, with a key, without a database. It asks nodes in OpenAI's dialect, which is the cheapest to it."""

    key = KEY

    def __init__(self, program: Path, directory: Path, nodes: dict[str, Address]) -> None:
        """`nodes`: where each model is."""
        self.address: Address = (HOST, free_port(HOST, 0))
        config = directory / "litellm.yaml"
        config.write_text(_config(nodes))
        env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        env |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}  # it asks the network for nothing
        argv = [str(program), "--config", str(config), "--host", HOST, "--port", str(self.address[1])]
        argv += ["--num_workers", "1", "--telemetry", "False"]
        self.child = Child(NAME, argv, log=directory / "litellm.log", env=env)

    async def ready(self) -> None:
        """Raises `ChildFailed`, or TimeoutError."""
        async with httpx.AsyncClient() as http, asyncio.timeout(START_S):
            while not await self._lives(http):
                if not self.child.running:
                    raise self.child.failure("ended while it started")
                await asyncio.sleep(POLL_S)

    async def _lives(self, http: httpx.AsyncClient) -> bool:
        try:
            return (await http.get(f"http://{HOST}:{self.address[1]}/health/liveliness")).status_code == 200
        except httpx.HTTPError:
            return False


def _config(nodes: dict[str, Address]) -> str:
    lines = ["model_list:"]
    for model, (host, port) in nodes.items():
        base = f"http://{host}:{port}/v1"
        lines.append(f"  - model_name: {model}")
        lines.append(f"    litellm_params: {{model: openai/{model}, api_base: '{base}', api_key: none}}")
    return "\n".join([*lines, "general_settings:", f"  master_key: {KEY}", ""])


async def _done(*argv: str) -> str:
    """What a command says on its way to success. Raises `CannotStart` with its last words."""
    child = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(INSTALL_S):
            said = (await child.communicate())[0].decode().strip()
    except TimeoutError:
        child.kill()
        said = f"not done after {INSTALL_S:.0f} s"
    if child.returncode != 0:
        last = said.splitlines()[-1:] or [""]
        raise CannotStart(f"{NAME} could not be installed, which needs a network: {last[0]}")
    return said
