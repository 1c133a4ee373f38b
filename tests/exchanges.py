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
    for data in _events(text):
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


def completions(status: int, text: str) -> Meaning:
    """What an answer of OpenAI's completions API means, streamed or not."""
    meaning = Meaning()
    if status != 200:
        meaning.error = status
        return meaning
    for data in _events(text):
        if data == "[DONE]":
            meaning.done = True
            continue
        reply = json.loads(data)
        if "error" in reply:
            meaning.error = "mid-stream"
            continue
        for choice in reply["choices"]:
            meaning.text += choice["text"]
            meaning.finish = choice["finish_reason"] or meaning.finish
        if (reply.get("usage") or {}).get("total_tokens"):
            _count(meaning, reply["usage"])
    meaning.done = meaning.done or not text.startswith(("data:", ":"))
    return meaning


def responses(status: int, text: str) -> Meaning:
    """What an answer of OpenAI's Responses API means, streamed or not: its final object, which must fit its deltas."""
    meaning = Meaning()
    if status != 200:
        meaning.error = status
        return meaning
    events = [json.loads(data) for data in _events(text)]
    deltas = "".join(event["delta"] for event in events if event.get("type") == "response.output_text.delta")
    final = events[-1].get("response", events[-1]) if "type" in events[-1] else events[-1]
    if final.get("status") not in ("completed", "incomplete"):
        meaning.error, meaning.text = "mid-stream", deltas
        return meaning
    for item in final["output"]:
        meaning.text += "".join(part["text"] for part in item.get("content") or [])
        meaning.thought += "".join(part["text"] for part in item.get("summary") or [])
        if item["type"] == "function_call":
            meaning.tools.append((item["name"], json.loads(item["arguments"])))
    assert len(events) == 1 or deltas == meaning.text
    meaning.done, meaning.finish = True, "stop" if final["status"] == "completed" else "length"
    meaning.prompt_tokens, meaning.completion_tokens = final["usage"]["input_tokens"], final["usage"]["output_tokens"]
    return meaning


STOP_REASONS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "stop"}


def anthropic(status: int, text: str) -> Meaning:
    """What an answer of Anthropic's API means, streamed or not."""
    meaning = Meaning()
    if status != 200:
        meaning.error = status
        return meaning
    arguments = ""
    for event in map(json.loads, _events(text)):
        kind, delta = event["type"], event.get("delta", {})
        for block in event.get("content", []) if kind == "message" else [event.get("content_block", {})]:
            meaning.text += block.get("text", "")
            meaning.thought += block.get("thinking", "")
            if block.get("type") == "tool_use":
                meaning.tools.append((block["name"], block["input"]))
        meaning.text += delta.get("text", "")
        meaning.thought += delta.get("thinking", "")
        arguments += delta.get("partial_json", "")
        if kind == "content_block_stop" and arguments:
            meaning.tools[-1] = (meaning.tools[-1][0], json.loads(arguments))
            arguments = ""
        if kind in ("message", "message_delta"):
            reason = event.get("stop_reason") or delta.get("stop_reason")
            meaning.finish = STOP_REASONS[reason]
            usage = event["usage"]
            meaning.prompt_tokens, meaning.completion_tokens = usage["input_tokens"], usage["output_tokens"]
        meaning.done = meaning.done or kind in ("message", "message_stop")
        meaning.error = "mid-stream" if kind == "error" else meaning.error
    return meaning


def _events(text: str) -> list[str]:
    """The data of all events; the whole text when it is no stream."""
    if not text.startswith(("data:", "event:", ":")):
        return [text]
    lines = text.splitlines()
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
