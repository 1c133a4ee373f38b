"""The form of a key: what is minted is read back, and nothing else is."""

import hmac
from hashlib import sha256
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core import keys
from gateway.core.keys import ENTROPY_BYTES, KEY_CHARS_MAX, SHARDS_MAX, Peppers, mint, shard_of

PREFIX = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,15}", fullmatch=True).filter(str.isascii)
MINTED = st.builds(mint, PREFIX, st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
ONE = mint("llm", bytes(range(ENTROPY_BYTES)))
ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)
OLD, NEW = "an old pepper of 32 characters..", "a new pepper of 32 characters..."
read = Peppers().credential


@given(MINTED)
def test_what_is_minted_is_read_as_its_id_and_the_digest_of_it_all(key: str) -> None:
    credential = read(key)
    assert credential
    assert credential.digests == (sha256(key.encode()).hexdigest(),)
    assert credential.key_id == key.rpartition("_")[2][: keys.ID_CHARS]


@given(MINTED, st.data())
def test_any_changed_character_is_refused(key: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(st.sampled_from(keys._DIGITS + "_- ") | st.characters())
    assume(other != key[at])
    assert read(key[:at] + other + key[at + 1 :]) is None


@pytest.mark.parametrize("at", range(len(ONE)))
def test_a_missing_a_doubled_or_a_swapped_character_is_refused(at: int) -> None:
    assert read(ONE[:at] + ONE[at + 1 :]) is None
    assert read(ONE[:at] + ONE[at] + ONE[at:]) is None
    swapped = ONE[:at] + ONE[at : at + 2][::-1] + ONE[at + 2 :]
    assert swapped == ONE or read(swapped) is None


@given(st.text() | st.text(alphabet=keys._DIGITS + "_-", max_size=KEY_CHARS_MAX + 2))
def test_foreign_text_is_no_key_and_no_error(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "llm_", "sk-" + "a" * 48, f" {ONE}", f"{ONE}\n", ONE * 100, ONE.upper(), "a" * 10**6, ONE.replace("_", "＿")],
    ids=["empty", "prefix", "OpenAI", "space", "newline", "many", "upper", "long", "fullwidth"],
)
def test_what_looks_a_little_like_a_key_is_none(text: str) -> None:
    assert read(text) is None


def test_different_entropy_makes_different_keys() -> None:
    made = {mint("llm", number.to_bytes(ENTROPY_BYTES, "big")) for number in (0, 1, 2**255, 2**256 - 1)}
    assert len(made) == 4
    assert {len(key) for key in made} == {len("llm_") + keys.BODY_CHARS + keys.CHECK_CHARS}


@pytest.mark.parametrize("size", [0, ENTROPY_BYTES - 1, ENTROPY_BYTES + 1])
def test_too_little_or_too_much_entropy_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        mint("llm", bytes(size))


@given(PREFIX, st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_the_longest_prefix_still_makes_keys_that_are_read(prefix: str, entropy: bytes) -> None:
    assert len(mint(prefix, entropy)) <= KEY_CHARS_MAX


def test_shards_are_those_of_redis_cluster() -> None:
    assert shard_of("123456789", 1 << 16) == 0x31C3
    assert [shard_of("123456789", shards) for shards in (1, 16, 256)] == [0, 3, 0xC3]


@given(MINTED, st.sampled_from([1, 2, 16, 256]))
def test_a_key_has_one_shard_of_those_there_are(key: str, shards: int) -> None:
    credential = read(key)
    assert credential
    assert 0 <= shard_of(credential.key_id, shards) < shards


def test_owners_see_the_end_of_a_key() -> None:
    assert ONE.endswith(keys.last_four(ONE))
    assert len(keys.last_four(ONE)) == 4


@given(MINTED)
def test_a_pepper_makes_the_digest_another_and_is_named_by_its_own(key: str) -> None:
    plain, none = Peppers().digest(key)
    digest, pepper_id = Peppers(NEW).digest(key)
    assert (plain, none) == (sha256(key.encode()).hexdigest(), "")
    assert digest == hmac.digest(NEW.encode(), key.encode(), "sha256").hex() != plain
    assert len(pepper_id) == keys.PEPPER_ID_CHARS
    assert pepper_id != Peppers(OLD).digest(key)[1]
    assert NEW not in pepper_id


@given(MINTED)
def test_a_key_stored_before_the_pepper_changed_is_still_known(key: str) -> None:
    """Whatever was stored of it is among what is looked for: under the old pepper, the new one, or none."""
    credential = Peppers(NEW, OLD).credential(key)
    assert credential
    assert {Peppers(*peppers).digest(key)[0] for peppers in ((), (OLD,), (NEW, OLD))} == set(credential.digests)
    stranger = Peppers(OLD).credential(key)
    assert stranger
    assert Peppers(NEW).digest(key)[0] not in stranger.digests


@given(MINTED, PREFIX, ENTROPY)
def test_a_rotated_key_keeps_its_id_and_nothing_else(key: str, prefix: str, entropy: bytes) -> None:
    key_id = keys.id_of(key)
    assert key_id
    fresh = keys.remint(key_id, prefix, entropy)
    assert keys.id_of(fresh) == key_id
    assert fresh.startswith(f"{prefix}_{key_id}")
    assert len(fresh) - len(prefix) == len(key) - len(key.rpartition("_")[0])
    other = keys.remint(key_id, prefix, bytes(byte ^ 1 for byte in entropy))
    assert other != fresh


def test_a_key_is_made_in_the_shard_of_its_team_however_many_there_are(seed: str) -> None:
    chance = Random(seed)
    for _ in range(20):
        team_id = keys.mint_id(chance.randbytes(ENTROPY_BYTES))
        key_id = keys.id_of(keys.mint_beside(team_id, "llm", chance.randbytes))
        assert key_id
        for shards in (1, 2, 16, SHARDS_MAX):
            assert shard_of(key_id, shards) == shard_of(team_id, shards)


def test_a_chance_that_never_comes_is_not_waited_for() -> None:
    team_id = next(
        text for text in ("0000000001", "0000000002") if shard_of(text, SHARDS_MAX) != shard_of("0" * 10, SHARDS_MAX)
    )
    with pytest.raises(RuntimeError, match="shard"):
        keys.mint_beside(team_id, "llm", bytes)


@given(ENTROPY)
def test_an_id_of_a_team_has_the_form_of_a_key_id(entropy: bytes) -> None:
    made = keys.mint_id(entropy)
    assert len(made) == keys.ID_CHARS
    assert made.isalnum() and made.isascii()
