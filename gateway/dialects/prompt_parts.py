"""A prompt in parts, in the order a model reads them: two that begin with the same parts begin alike (core.affinity).

What begins the prompts of many conversations, tools and the system's words, is one part with what follows it: by
itself it would send all of them to one node.
"""

from collections.abc import Iterable

BLOCK_BYTES = 2_048
"""of a prompt in one piece"""
IMAGE_CHARS = 4_096
"""last ones of an image, by which it is told from others"""


def turns(before: bytes, messages: Iterable[tuple[bool, bytes]]) -> list[bytes]:
    """Of a conversation: for each message whether it is the system's, and what it adds to the prompt."""
    found: list[bytes] = []
    start = before
    for is_systems, said in messages:
        start += said
        if found or not is_systems:
            found.append(start)
            start = b""
    return found


def blocks(before: Iterable[bytes], prompt: str) -> list[bytes]:
    """Of a prompt that is one text."""
    text = prompt.encode()
    found = [text[at : at + BLOCK_BYTES] for at in range(0, len(text), BLOCK_BYTES)]
    return [b"\0".join((*before, found[0])), *found[1:]] if found else []


def image(data: str) -> bytes:
    """Enough of an image to know it again."""
    return b"%d:%b" % (len(data), data[-IMAGE_CHARS:].encode())
