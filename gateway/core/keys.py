"""API keys: what one looks like, what is stored of it, and which shard its state lives in.

    llm_ 4fZq81LmXa 0Jt…(33 characters)…9c  a1B2c3
    │    │          │                       └ CRC-32 of everything before it, base62: typing errors never reach Redis
    │    │          └ the secret: 196 random bits
    │    └ the key's id: public, in logs and tables; kept when the secret is rotated
    └ API_KEY_PREFIX

Id and secret together are 32 random bytes in base62. Only the SHA-256 digest of the whole text is stored: right for
random secrets, which nobody can guess offline. Because the id is part of the key, one Redis call can name everything
that belongs to it (see `deploy/decisions/0001-key-id-in-key.md`).
"""

import re
import zlib
from binascii import crc_hqx
from hashlib import sha256

from msgspec import Struct

ENTROPY_BYTES = 32
ID_CHARS = 10
BODY_CHARS = 43  # 62**43 > 2**256
CHECK_CHARS = 6  # 62**6 > 2**32
KEY_CHARS_MAX = 128

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(
    rf"([A-Za-z][A-Za-z0-9-]{{0,15}})_([0-9A-Za-z]{{{BODY_CHARS}}})([0-9A-Za-z]{{{CHECK_CHARS}}})", re.ASCII
)


class Credential(Struct, frozen=True):
    """What remains of a presented key: its id and the hex SHA-256 digest of the whole text. Never the text."""

    key_id: str
    digest: str


def mint(prefix: str, entropy: bytes) -> str:
    """A new key from 32 bytes of `entropy`."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key takes {ENTROPY_BYTES} bytes of entropy")
    body = f"{prefix}_{_base62(int.from_bytes(entropy, 'big'), BODY_CHARS)}"
    return body + _check(body)


def read(text: str) -> Credential | None:
    """The credential in a well-formed key; None for anything else. Says nothing about whether the key exists."""
    if len(text) > KEY_CHARS_MAX:
        return None
    form = _FORM.fullmatch(text)
    if form is None or _check(text[:-CHECK_CHARS]) != form[3]:
        return None
    return Credential(key_id=form[2][:ID_CHARS], digest=sha256(text.encode()).hexdigest())


def last_four(text: str) -> str:
    """The end of the secret, which owners may see again to tell keys apart."""
    return text[-4:]


def shard_of(key_id: str, shards: int) -> int:
    """CRC16 (the one Redis Cluster uses) of the id, modulo the number of shards."""
    return crc_hqx(key_id.encode(), 0) % shards


def _check(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
