"""The fake Ollama gives the recorded answers: status, headers, chunks, keys in order, all that is no measurement."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama

EXCHANGES = json.loads((Path(__file__).parents[1] / "fixtures" / "ollama-exchanges.json").read_text())
NATIVE = {one["name"]: one for one in EXCHANGES if one["request"]["path"].startswith("/api/") or one["name"] == "root"}
MEASURED = {
    "created_at", "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
    "eval_duration", "context", "embedding", "embeddings", "modified_at", "expires_at", "size", "size_vram",
}  # fmt: skip
ONLY_KEYS = {"show"}  # the recorded model was a stub of 32 parameters


async def ask(fake: FakeOllama, method: str, path: str, body: str | None = None) -> dict[str, Any]:
    """One exchange over a raw socket, in the form of the fixtures."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    data = (body or "").encode()
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    headers = [line.split(": ", 1) for line in lines]
    length = dict(map(tuple, headers)).get("Content-Length")
    chunks: list[str] | None = None
    if length is None:
        chunks = []
        while size := int(await reader.readline(), 16):
            chunks.append((await reader.readexactly(size + 2))[:-2].decode())
    text = "".join(chunks) if chunks is not None else (await reader.readexactly(int(length or 0))).decode()
    writer.close()
    status = int(status_line.split()[1])
    return {"status": status, "status_line": status_line, "headers": headers, "body": text, "chunks": chunks}


def meaning(text: str) -> Any:
    """The JSON lines of a body without what was measured, key order kept."""
    try:
        return [scrub(json.loads(line)) for line in text.splitlines()]
    except json.JSONDecodeError:
        return text


def scrub(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, None if key in MEASURED else scrub(part)) for key, part in value.items()]
    return [scrub(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NATIVE)
async def test_recorded(fake: FakeOllama, name: str) -> None:
    request, recorded = NATIVE[name]["request"], NATIVE[name]["response"]
    if name.startswith("busy"):
        fake.behaviour = Behaviour(queue_full=True)
    if name == "ps":
        await ask(fake, "POST", "/api/chat", '{"model":"llama3.2:3b"}')
    answer = await ask(fake, request["method"], request["path"], request["body"])
    assert answer["status_line"] == recorded["status_line"]
    assert [key for key, _ in answer["headers"]] == [key for key, _ in recorded["headers"]]
    assert answer["headers"][0] == recorded["headers"][0]  # Content-Type
    if name in ONLY_KEYS:
        assert list(json.loads(answer["body"])) == list(json.loads(recorded["body"]))
        return
    assert meaning(answer["body"]) == meaning(recorded["body"])
    assert answer["body"].endswith("\n") == recorded["body"].endswith("\n")
    assert (answer["chunks"] is None) == (recorded["chunks"] is None)
    if recorded["chunks"]:
        assert list(map(meaning, answer["chunks"])) == list(map(meaning, recorded["chunks"]))


@pytest.mark.parametrize("name", [one["name"] for one in EXCHANGES])
async def test_replayed_byte_by_byte_in_the_same_chunks(fake: FakeOllama, name: str) -> None:
    recorded = next(one["response"] for one in EXCHANGES if one["name"] == name)
    fake.replay("/api/chat", recorded)
    answer = await ask(fake, "POST", "/api/chat", '{"model":"llama3.2:3b","messages":[{"role":"user","content":"x"}]}')
    assert answer["status"] == recorded["status"]
    assert answer["chunks"] == recorded["chunks"]
    assert answer["body"] == recorded["body"]
    again = await ask(fake, "POST", "/api/chat", '{"model":"llama3.2:3b"}')
    assert json.loads(again["body"])["done_reason"] == "load"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/api/chat", "", 400, "missing request body"),
        ("/api/chat", "[]", 400, "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        ("/api/chat", "{}", 400, "model is required"),
        ("/api/chat", '{"model":"a b"}', 400, "invalid model name"),
        (
            "/api/chat",
            '{"model":"llama3.2:3b","messages":[{"role":"user","content":[]}]}',
            400,
            "json: cannot unmarshal",
        ),
        (
            "/api/chat",
            '{"model":"llama3.2:3b","messages":[{"role":"user","content":"x"}],"keep_alive":"5"}',
            400,
            "unit",
        ),
        ("/api/chat", '{"model":"nomic-embed-text","messages":[{"content":"x"}]}', 400, "does not support chat"),
        ("/api/generate", '{"model":"llama3.2:3b","prompt":"x","options":{"num_ctx":"a"}}', 500, 'option "num_ctx"'),
        ("/api/generate", '{"model":"llama3.2:3b","prompt":"x","format":"yaml"}', 500, "invalid format"),
        ("/api/embed", '{"model":"nomic-embed-text","input":[[1,2]]}', 400, "invalid input type"),
        ("/api/chat", '{"model":' + "[" * 100_000, 400, "exceeded max depth"),
    ],
)
async def test_refusals(fake: FakeOllama, path: str, body: str, status: int, said: str) -> None:
    answer = await ask(fake, "POST", path, body)
    assert answer["status"] == status
    assert said in json.loads(answer["body"])["error"]


async def test_keys_in_any_case_and_names_in_any_spelling(fake: FakeOllama) -> None:
    spelt = (
        '{"model":"nope","MODEL":"https://registry.ollama.ai/library/LLAMA3.2:3b","Prompt":"hi","stream":false} rest'
    )
    answer = json.loads((await ask(fake, "POST", "/api/generate", spelt))["body"])
    assert answer["model"] == "https://registry.ollama.ai/library/LLAMA3.2:3b"
    assert answer["response"] == "Blue light scatters most."


async def test_counts_are_those_of_the_tokens_sent(fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(tokens=40)
    prompt = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "one two three"}] * 2}
    lines = (await ask(fake, "POST", "/api/chat", json.dumps(prompt)))["chunks"]
    last = json.loads(lines[-1])
    assert (len(lines), last["eval_count"], last["done_reason"]) == (41, 40, "stop")
    assert last["prompt_eval_count"] == 2 * 3 + 2 * 19
    assert fake.ledger.exchanges[-1].tokens_sent == 40
    cut = await ask(fake, "POST", "/api/chat", json.dumps(prompt | {"options": {"num_predict": 7}, "stream": False}))
    last = json.loads(cut["body"])
    assert (last["eval_count"], last["done_reason"]) == (7, "length")


async def test_text_thinking_and_json(fake: FakeOllama) -> None:
    text = "Grüße, 世界! 🎈\n  twice  "
    fake.behaviour = Behaviour(text=text)
    ask_for = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "x"}], "think": "low"}
    lines = [json.loads(line) for line in (await ask(fake, "POST", "/api/chat", json.dumps(ask_for)))["chunks"]]
    assert "".join(line["message"]["content"] for line in lines) == text
    assert "".join(line["message"].get("thinking", "") for line in lines) == "The user asks about the sky."
    assert lines[-1]["eval_count"] == len(lines) - 1
    fake.behaviour = Behaviour()
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    ask_for |= {"format": schema, "stream": False}
    answer = json.loads((await ask(fake, "POST", "/api/chat", json.dumps(ask_for)))["body"])
    assert json.loads(answer["message"]["content"]) == {"city": "Oslo", "days": 2}


async def test_loading_and_unloading_show_in_ps(fake: FakeOllama) -> None:
    async def loaded() -> list[str]:
        return [one["name"] for one in json.loads((await ask(fake, "GET", "/api/ps"))["body"])["models"]]

    assert await loaded() == []
    await ask(fake, "POST", "/api/generate", '{"model":"llama3.2:3b","options":{"num_ctx":2048}}')
    await ask(fake, "POST", "/api/chat", '{"model":"qwen3:8b","keep_alive":-1}')
    assert await loaded() == ["qwen3:8b", "llama3.2:3b"]
    assert json.loads((await ask(fake, "GET", "/api/ps"))["body"])["models"][1]["context_length"] == 2048
    await ask(fake, "POST", "/api/chat", '{"model":"qwen3:8b","keep_alive":0}')
    assert await loaded() == ["llama3.2:3b"]
