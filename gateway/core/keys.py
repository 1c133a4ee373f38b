"""API keys: what one looks like, what is stored of it, and which shard its state lives in.

    llm_ 4fZq81LmXa 0Jt…(33 characters)…9c  a1B2c3
    │    │          │                       └ CRC-32 of everything before it, base62: typing errors never reach Redis
    │    │          └ the secret: 196 random bits
    │    └ the key's id: public, in logs and tables; kept when the secret is rotated
    └ API_KEY_PREFIX

Id and secret together are 32 random bytes in base62. Only a digest of the whole text is stored: SHA-256, right for
random secrets, which nobody can guess offline; or HMAC-SHA-256 under a pepper that the database does not hold. Because
the id is part of the key, one Redis call can name everything that belongs to it (see
`deploy/decisions/0001-key-id-in-key.md`).
"""

import hmac
import re
import zlib
from binascii import crc_hqx
from collections.abc import Callable
from hashlib import sha256

from msgspec import Struct

ENTROPY_BYTES = 32
ID_CHARS = 10
BODY_CHARS = 43  # 62**43 > 2**256
CHECK_CHARS = 6  # 62**6 > 2**32
KEY_CHARS_MAX = 128
PEPPER_ID_CHARS = 8
SHARDS_MAX = 256
"""a power of two, and SHARDS divides it: ids that agree modulo this agree modulo SHARDS"""
BESIDE_TRIES_MAX = 100 * SHARDS_MAX

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(
    rf"([A-Za-z][A-Za-z0-9-]{{0,15}})_([0-9A-Za-z]{{{BODY_CHARS}}})([0-9A-Za-z]{{{CHECK_CHARS}}})", re.ASCII
)


class Credential(Struct, frozen=True):
    """What remains of a presented key: its id and the hex digests that may be stored of it. Never the text."""

    key_id: str
    digests: tuple[str, ...]


class Peppers:
    """How keys are digested: under the first pepper, or with SHA-256 alone where there is none.

    Keys that were stored under one of the others, or before there was a pepper, go on working.
    """

    def __init__(self, *peppers: str) -> None:
        self._peppers = [pepper.encode() for pepper in peppers if pepper]

    def digest(self, text: str) -> tuple[str, str]:
        """What is stored of a new key: its hex digest, and which pepper that was made under ("": none)."""
        if not self._peppers:
            return sha256(text.encode()).hexdigest(), ""
        first = self._peppers[0]
        return hmac.digest(first, text.encode(), "sha256").hex(), sha256(b"pepper " + first).hexdigest()[
            :PEPPER_ID_CHARS
        ]

    def credential(self, text: str) -> Credential | None:
        """The credential in a well-formed key; None for anything else. Says nothing about whether the key exists."""
        key_id = id_of(text)
        if key_id is None:
            return None
        data = text.encode()
        return Credential(
            key_id=key_id,
            digests=(
                *(hmac.digest(pepper, data, "sha256").hex() for pepper in self._peppers),
                sha256(data).hexdigest(),
            ),
        )


def mint(prefix: str, entropy: bytes) -> str:
    """A new key from 32 bytes of `entropy`."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key takes {ENTROPY_BYTES} bytes of entropy")
    body = f"{prefix}_{_base62(int.from_bytes(entropy, 'big'), BODY_CHARS)}"
    return body + _check(body)


def remint(key_id: str, prefix: str, entropy: bytes) -> str:
    """Another key with the same id, for a rotation; of `entropy` only what is not the id's place counts."""
    fresh = mint(prefix, entropy)
    body = f"{prefix}_{key_id}{fresh[len(prefix) + 1 + ID_CHARS : -CHECK_CHARS]}"
    return body + _check(body)


def id_of(text: str) -> str | None:
    """The id in a well-formed key; None for anything else."""
    if len(text) > KEY_CHARS_MAX:
        return None
    form = _FORM.fullmatch(text)
    if form is None or _check(text[:-CHECK_CHARS]) != form[3]:
        return None
    return form[2][:ID_CHARS]


def mint_beside(team_id: str, prefix: str, entropy: Callable[[int], bytes]) -> str:
    """A new key whose state lives in the same shard as its team's, however many shards there are or will be.

    Raises `RuntimeError` after so many tries that chance cannot be the reason.
    """
    for _ in range(BESIDE_TRIES_MAX):
        key = mint(prefix, entropy(ENTROPY_BYTES))
        if shard_of(id_of(key) or "", SHARDS_MAX) == shard_of(team_id, SHARDS_MAX):
            return key
    raise RuntimeError("no key falls into the shard of its team")


def mint_id(entropy: bytes) -> str:
    """An id of a team, in the form of a key's, from 32 bytes of `entropy`."""
    return _base62(int.from_bytes(entropy, "big"), BODY_CHARS)[-ID_CHARS:]


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
