"""How likely each token was: the hub's figures in the two forms that OpenAI has for them."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.dialects.ollama import Reply
from gateway.errors import StreamBroken


class Logprob(Struct):
    """A token and the natural logarithm of its probability; `top_logprobs` are the likeliest tokens at its place."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list["Logprob"] = []


def of(reply: Reply) -> list[Logprob]:
    """Raises `StreamBroken` for what no model server should send."""
    if not reply.logprobs:
        return []
    try:
        return msgspec.convert(reply.logprobs, list[Logprob])
    except (msgspec.ValidationError, RecursionError):
        raise StreamBroken("The model server sent log probabilities that are none.") from None


def as_chat(tokens: list[Logprob]) -> dict[str, Any] | None:
    """The form of chats; each token's alternatives have none of their own."""
    content = [_entry(one) | {"top_logprobs": [_entry(top) for top in one.top_logprobs]} for one in tokens]
    return {"content": content, "refusal": None} if content else None


def _entry(one: Logprob) -> dict[str, Any]:
    own = one.bytes if one.bytes is not None else list(one.token.encode())
    return {"token": one.token, "logprob": one.logprob, "bytes": own}


def as_completion(tokens: list[Logprob], offset: int) -> dict[str, Any] | None:
    """The form of completions: one list for each property. `offset`: characters of the answer before these tokens."""
    if not tokens:
        return None
    offsets = [offset]
    for one in tokens[:-1]:
        offsets.append(offsets[-1] + len(one.token))
    return {
        "tokens": [one.token for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [{top.token: top.logprob for top in one.top_logprobs} for one in tokens],
        "text_offset": offsets,
    }
