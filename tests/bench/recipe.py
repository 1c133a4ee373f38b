"""How the stub answers, as the name of a model: `n200d10t50` is 200 chunks, 10 ms apart, the first after 50 ms."""

import re

from msgspec import Struct

_PART = re.compile(r"([a-z])(\d+)")
_FIELDS = {"n": "chunks", "d": "gap_ms", "t": "first_ms", "s": "text_bytes", "v": "vectors"}


class Recipe(Struct, frozen=True):
    """`gap_ms` 0: all chunks at once. `text_bytes` are those of an answer that is not streamed."""

    chunks: int = 1
    gap_ms: int = 0
    first_ms: int = 0
    text_bytes: int = 128
    vectors: int = 0
    """of an answer with embeddings"""


def read(model: str) -> Recipe:
    """The recipe that a model's name is, with or without its tag. Raises ValueError for any other name."""
    name = model.partition(":")[0]
    parts = _PART.findall(name)
    if not parts or "".join(letter + digits for letter, digits in parts) != name:
        raise ValueError(f"{name!r} is no recipe")
    try:
        return Recipe(**{_FIELDS[letter]: int(digits) for letter, digits in parts})
    except KeyError as error:
        raise ValueError(f"{name!r} has an unknown part {error}") from None
