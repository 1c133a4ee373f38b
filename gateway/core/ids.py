"""Ids of calls: UUIDv7 (RFC 9562), so that rows sort by the time of their admission."""

ENTROPY_BYTES = 10


def unix_ms(call_id: str) -> int:
    """When a UUIDv7 was made."""
    return int(call_id[:8] + call_id[9:13], 16)


def uuid7(unix_ms: int, entropy: bytes) -> str:
    """A UUIDv7 as text, from milliseconds since 1970 and 10 random bytes."""
    number = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(entropy, "big")
    number = number & ~(0xF << 76) | 0x7 << 76  # version
    number = number & ~(0x3 << 62) | 0x2 << 62  # variant
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
