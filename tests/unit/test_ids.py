"""Call ids are UUIDs of version 7: they carry their time and sort by it."""

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from gateway.core import ids
from gateway.core.ids import ENTROPY_BYTES, uuid7

TIME_MS = st.integers(0, 2**48 - 1)
ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)


@given(TIME_MS, ENTROPY)
def test_version_variant_and_time_are_in_place(unix_ms: int, entropy: bytes) -> None:
    text = uuid7(unix_ms, entropy)
    one = UUID(text)
    assert (str(one), one.version, one.variant, one.int >> 80) == (text, 7, RFC_4122, unix_ms)
    assert ids.unix_ms(text) == unix_ms


@given(TIME_MS, TIME_MS, ENTROPY, ENTROPY)
def test_a_later_id_sorts_later(one_ms: int, other_ms: int, one: bytes, other: bytes) -> None:
    if one_ms != other_ms:
        assert (uuid7(one_ms, one) < uuid7(other_ms, other)) is (one_ms < other_ms)


@given(TIME_MS, st.integers(0, 73))
def test_every_random_bit_counts(unix_ms: int, bit: int) -> None:
    at = bit if bit < 62 else bit + 2  # the variant's two bits are fixed
    assert uuid7(unix_ms, bytes(ENTROPY_BYTES)) != uuid7(unix_ms, (1 << at).to_bytes(ENTROPY_BYTES, "big"))
