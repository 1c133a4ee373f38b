"""Prompts as parts, and which parts a model of the fake Ollama need not evaluate again.

A real runner compares tokens; this one compares whole messages, which is how conversations grow.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

TEMPLATE_TOKENS = 19  # what the recorded model's template adds to a message; gateways reckon with up to 64
IMAGE_TOKENS = 256


class Part(Struct, frozen=True):
    """One message of a conversation, or one text."""

    role: str
    text: str
    tokens: int


def parts_of(path: str, body: dict[str, Any]) -> list[Part]:
    """What a request has to be evaluated, in order."""
    if path == "/api/chat":
        messages = body.get("messages") or ()
        return [_part(str(one.get("role")), one.get("content") or "", one.get("images")) for one in messages]
    if path == "/api/generate":
        system = body.get("system") or ""
        before = [Part("system", system, len(system.split()))] if system else []
        return [*before, _part("user", body.get("prompt") or "", body.get("images"))]
    given = body.get("prompt" if path == "/api/embeddings" else "input") or []
    texts = given if isinstance(given, list) else [given]
    return [Part("", text, len(text.split()) + 1) for text in texts if text and isinstance(text, str)]


def _part(role: str, text: str, images: Any) -> Part:
    return Part(role, text, len(text.split()) + TEMPLATE_TOKENS + IMAGE_TOKENS * len(images or ()))


def tokens_of(parts: Sequence[Part]) -> int:
    return sum(part.tokens for part in parts)


class PromptCache:
    """Conversations that a loaded model has in its memory, the one used last at the end."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[tuple[str, str], ...], None] = OrderedDict()

    def evaluate(self, parts: Sequence[Part], most: int) -> int:
        """The tokens to evaluate, at least one; the prompt is kept from now on, instead of what it continues."""
        wanted = _keys(parts)
        nearest = max(self._kept, key=lambda kept: _common(kept, wanted), default=())
        known = _common(nearest, wanted)
        if nearest and known == len(nearest):
            del self._kept[nearest]
        self._keep(wanted, most)
        return max(1, tokens_of(parts[known:]))

    def answered(self, parts: Sequence[Part], text: str, most: int) -> None:
        """What the model said is in its memory too."""
        asked = _keys(parts)
        self._kept.pop(asked, None)
        self._keep((*asked, ("assistant", text)), most)

    def _keep(self, conversation: tuple[tuple[str, str], ...], most: int) -> None:
        self._kept[conversation] = None
        self._kept.move_to_end(conversation)
        while len(self._kept) > most:
            self._kept.popitem(last=False)


def _keys(parts: Sequence[Part]) -> tuple[tuple[str, str], ...]:
    return tuple((part.role, part.text) for part in parts)


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many elements both begin with."""
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return number
    return min(len(one), len(other))
