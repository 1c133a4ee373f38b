"""The recorded exchanges, and what they mean: text, thought, tool calls, how they end, counts, error."""

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

FIXTURES = Path(__file__).parent / "fixtures" / "ollama-exchanges.json"


class Meaning(Struct, kw_only=True):
    """An answer in no dialect. `error` is the HTTP status, or "mid-stream" for one that came after it."""

    text: str = ""
    thought: str = ""
    tools: list[tuple[str, Any]] = []
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: int | str | None = None
    done: bool = False


def recorded(*sections: str) -> list[dict[str, Any]]:
    """The exchanges of the sections that start with these letters."""
    exchanges: list[dict[str, Any]] = json.loads(FIXTURES.read_text())
    return [exchange for exchange in exchanges if exchange["section"].startswith(sections)]


def body_of(exchange: dict[str, Any]) -> dict[str, Any] | None:
    """The request as an object; None when it is not one (the exchange is about that)."""
    try:
        body: dict[str, Any] = json.loads(exchange["request"]["body"])
        return body
    except (json.JSONDecodeError, TypeError):
        return None


def native(status: int, text: str) -> Meaning:
    """What a native answer means, streamed or not."""
    meaning = Meaning()
    if status != 200:
        meaning.error = status
        return meaning
    for line in text.splitlines():
        reply = json.loads(line)
        message = reply.get("message", {})
        meaning.text += message.get("content", "") or reply.get("response", "")
        meaning.thought += message.get("thinking", "") or reply.get("thinking", "")
        meaning.tools += [
            (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])
        ]
        if "error" in reply:
            meaning.error = "mid-stream"
        if reply.get("done"):
            meaning.done = True
            meaning.finish = reply.get("done_reason")
            meaning.prompt_tokens, meaning.completion_tokens = reply.get("prompt_eval_count"), reply.get("eval_count")
    return meaning


def openai(status: int, text: str) -> Meaning:
    """What an answer of OpenAI's chat API means, streamed or not."""
    meaning = Meaning()
    if status != 200:
        meaning.error = status
        return meaning
    if not text.startswith(("data:", ":")):
        reply = json.loads(text)
        choice = reply["choices"][0]
        _add(meaning, choice["message"], choice["finish_reason"])
        _count(meaning, reply["usage"])
        meaning.done = meaning.finish is not None
        return meaning
    for event in filter(None, text.split("\n\n")):
        data = event.removeprefix("data: ")
        if data == "[DONE]":
            meaning.done = True
            continue
        reply = json.loads(data)
        if "error" in reply:
            meaning.error = "mid-stream"
            continue
        for choice in reply["choices"]:
            _add(meaning, choice["delta"], choice["finish_reason"])
        if reply.get("usage"):
            _count(meaning, reply["usage"])
    return meaning


def _add(meaning: Meaning, message: dict[str, Any], finish: str | None) -> None:
    meaning.text += message.get("content") or ""
    meaning.thought += message.get("reasoning") or ""
    meaning.tools += [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls") or []
    ]
    meaning.finish = finish or meaning.finish


def _count(meaning: Meaning, usage: dict[str, int]) -> None:
    meaning.prompt_tokens, meaning.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
