"""A chat in each of the three dialects, and whether its answer is whole."""

import random
from typing import Any, Literal

import aiohttp
import msgspec
from msgspec import Struct

from tests.deploy.stack import MODEL

Dialect = Literal["openai", "anthropic", "ollama"]
DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic", "ollama")
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}
SMALL_CHARS, LARGE_CHARS = 40, 64 * 1024
LARGE_SHARE = 0.08
TOKENS_MAX = 24


class Chat(Struct, frozen=True, kw_only=True):
    """One request to come."""

    dialect: Dialect
    streamed: bool
    prompt_chars: int

    @property
    def path(self) -> str:
        return PATHS[self.dialect]

    @property
    def body(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": ("why " * (self.prompt_chars // 4)).strip()}]
        limit = {"options": {"num_predict": TOKENS_MAX}} if self.dialect == "ollama" else {"max_tokens": TOKENS_MAX}
        return {"model": MODEL, "messages": messages, "stream": self.streamed, **limit}


class Outcome(Struct, kw_only=True):
    """What came of it. `failure` is empty when the whole answer came."""

    chat: Chat
    phase: str
    request_id: str = ""
    failure: str = ""
    pieces: int = 0


def draw(chance: random.Random) -> Chat:
    chars = LARGE_CHARS if chance.random() < LARGE_SHARE else SMALL_CHARS
    return Chat(dialect=chance.choice(DIALECTS), streamed=chance.random() < 0.5, prompt_chars=chars)


async def ask(session: aiohttp.ClientSession, url: str, key: str, chat: Chat, phase: str = "") -> Outcome:
    """Once: nothing is tried again."""
    outcome = Outcome(chat=chat, phase=phase)
    headers = {"authorization": f"Bearer {key}"}
    try:
        async with session.post(url + chat.path, json=chat.body, headers=headers) as response:
            outcome.request_id = response.headers.get("x-request-id", "")
            if response.status != 200:
                outcome.failure = f"{response.status} {(await response.text())[:160]}"
            elif chat.streamed:
                outcome.failure = await _read_stream(response, outcome)
            else:
                outcome.failure = "" if _is_whole(msgspec.json.decode(await response.read())) else "no answer in it"
    except (aiohttp.ClientError, ConnectionError, TimeoutError, msgspec.DecodeError) as error:
        outcome.failure = f"{type(error).__name__}: {error}"
    return outcome


async def _read_stream(response: aiohttp.ClientResponse, outcome: Outcome) -> str:
    """What is wrong with it."""
    last = b""
    async for line in response.content:
        if line.strip():
            last = line.strip()
            outcome.pieces += 1
        if b'"error"' in line:
            return f"in the stream: {last.decode('utf-8', 'replace')[:160]}"
    ended = {
        "openai": last == b"data: [DONE]",
        "anthropic": b'"message_stop"' in last,
        "ollama": b'"done":true' in last,
    }
    return "" if ended[outcome.chat.dialect] else "the stream broke off"


def _is_whole(answer: dict[str, Any]) -> bool:
    return bool(answer.get("choices") or answer.get("content") or answer.get("done"))
