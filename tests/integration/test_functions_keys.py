"""Who is let in: secrets and their times, peppers, networks, scopes, models."""

from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import addresses, keys, names
from gateway.core.keys import Peppers
from gateway.core.limits import Limits
from gateway.core.record import Secret
from gateway.errors import AddressNotAllowed, GatewayError, ModelNotFound, ScopeMissing, Unauthorized
from gateway.state.functions import Functions, source
from tests.fakes import AT_US, KEY, SOURCE, Bench, call, credential_of, refused

PLENTY = Limits(rate_limit_per_min=10_000)
SECOND = keys.remint(credential_of(KEY).key_id, "llm", bytes(range(32)))
ROTATED_MS = AT_US // 1_000 + 60_000


def secret(key: str, *peppers: str, expires_at_ms: int | None = None) -> Secret:
    digest, pepper_id = Peppers(*peppers).digest(key)
    return Secret(digest=digest, pepper_id=pepper_id, last_four=key[-4:], created_at_ms=0, expires_at_ms=expires_at_ms)


async def verdict(bench: Bench, number: int, **changes: Any) -> type[GatewayError] | None:
    """Why it is refused; None when it is let in."""
    try:
        await bench.limiter.admit(call(number, **changes), "", b"{}")
    except GatewayError as error:
        return type(error)
    return None


async def test_a_rotated_key_has_two_secrets_until_the_old_ones_last_millisecond(bench: Bench) -> None:
    await bench.publish(PLENTY, secrets=(secret(SECOND), secret(KEY, expires_at_ms=ROTATED_MS)))
    assert await verdict(bench, 1) is None
    assert await verdict(bench, 2, credential=credential_of(SECOND)) is None
    bench.set_clock(ROTATED_MS * 1_000 - 1)
    assert await verdict(bench, 3) is None
    bench.tick(1)
    assert await verdict(bench, 4) is Unauthorized
    assert await verdict(bench, 5, credential=credential_of(SECOND)) is None


async def test_the_last_use_of_each_secret_is_kept_apart(bench: Bench) -> None:
    await bench.publish(PLENTY, secrets=(secret(SECOND), secret(KEY)))
    await verdict(bench, 1)
    bench.tick(5_000_000)
    await verdict(bench, 2, credential=credential_of(SECOND))
    used_ms = (await bench.inspector.statement(credential_of(KEY).key_id)).key.used_ms
    old, new = (credential_of(key).digests[0][:8] for key in (KEY, SECOND))
    assert used_ms == {old: AT_US // 1_000, new: AT_US // 1_000 + 5_000}


@pytest.mark.parametrize(
    ("stored_under", "presented_under", "let_in"),
    [
        ([], [], True),
        ([], ["a"], True),
        (["a"], ["a"], True),
        (["a"], ["b", "a"], True),
        (["a"], ["b"], False),
        (["a"], [], False),
    ],
)
async def test_a_key_works_under_any_pepper_that_is_still_there(
    bench: Bench, stored_under: list[str], presented_under: list[str], let_in: bool
) -> None:
    await bench.publish(PLENTY, secrets=(secret(KEY, *stored_under),))
    credential = Peppers(*presented_under).credential(KEY)
    assert await verdict(bench, 1, credential=credential) is (None if let_in else Unauthorized)


async def test_no_part_of_a_digest_is_enough(bench: Bench) -> None:
    await bench.publish(PLENTY)
    whole = credential_of(KEY)
    for wrong in ("", "*", whole.digests[0][:63], whole.digests[0][1:], "0" * 64):
        credential = replace(whole, digests=(wrong,))
        assert await verdict(bench, 1, credential=credential) is Unauthorized
    assert await verdict(bench, 1, credential=replace(whole, digests=())) is Unauthorized
    assert type(await refused(bench.inspector.inspect(replace(whole, digests=()), SOURCE))) is Unauthorized


NETWORKS = ["10.0.0.0/8", "192.168.7.0/30", "203.0.113.9/32", "2001:db8::/33", "fe80::1/128", "0.0.0.0/1"]


def beside(edge: Any) -> list[Any]:
    """An address and its neighbours."""
    return [edge, edge + 1, *([edge - 1] if int(edge) else [])]


async def test_a_key_is_used_from_its_networks_alone(bench: Bench, seed: str) -> None:
    """At both ends of each, one address beyond, and at random."""
    chance, number = Random(seed), 0
    for chosen in (NETWORKS[:1], NETWORKS[1:3], NETWORKS[2:5], NETWORKS[3:4], NETWORKS[5:]):
        await bench.publish(PLENTY, networks=tuple(chosen))
        networks = [ip_network(one) for one in chosen]
        tried = [near for one in networks for edge in (one[0], one[-1]) for near in beside(edge)]
        tried += [ip_address(chance.getrandbits(32)) for _ in range(10)]
        tried += [ip_address((0x20010DB8 << 96) + chance.getrandbits(96)) for _ in range(10)]
        for address in tried:
            inside = any(address in one for one in networks if one.version == address.version)
            number += 1
            found = await verdict(bench, number, source=addresses.digits(str(address)))
            assert found is (None if inside else AddressNotAllowed), (address, chosen)


async def test_an_address_of_old_is_the_same_in_its_new_form(bench: Bench) -> None:
    await bench.publish(PLENTY, networks=("10.0.0.0/8",))
    assert await verdict(bench, 1, source=addresses.digits("::ffff:10.1.2.3")) is None
    assert await verdict(bench, 2, source=addresses.digits("::10.1.2.3")) is AddressNotAllowed
    assert await verdict(bench, 3, source=addresses.NOBODY) is AddressNotAllowed


@pytest.mark.parametrize(
    ("scopes", "refusal"), [(("inference",), None), (("inference", "pull"), None), (("pull",), ScopeMissing)]
)
async def test_a_key_does_what_it_is_for(bench: Bench, scopes: tuple[Any, ...], refusal: type | None) -> None:
    await bench.publish(PLENTY, scopes=scopes)
    assert await verdict(bench, 1) is refusal


async def test_a_key_for_nothing_may_do_nothing(bench: Bench) -> None:
    await bench.publish(PLENTY, scopes=())
    assert await verdict(bench, 1) is ScopeMissing


async def test_a_model_that_is_not_allowed_is_as_one_that_is_not_there(bench: Bench) -> None:
    await bench.publish(PLENTY, models=("qwen*", "llama3.2:1b"))
    assert await verdict(bench, 1, model="llama3.2:1b") is None
    assert await verdict(bench, 2, model="qwen3:8b") is None
    assert await verdict(bench, 3, model="llama3.2:3b") is ModelNotFound
    told = await refused(bench.limiter.admit(call(4, model="llama3.2:3b"), "model_not_found", b"{}"))
    assert type(told) is ModelNotFound


GLOBS_OF = "ab*"
MATCHES = """
redis.register_function{function_name = 'LIBRARY_matches', callback = function(keys, args)
  return matches(args[1], args[2]) and 1 or 0
end, flags = {'no-writes'}}
"""


async def test_globs_match_alike_in_lua_and_in_python(bench: Bench, seed: str) -> None:
    """Of few letters, so that they often do; stars at the ends, doubled, alone; the text itself."""
    chance = Random(seed)
    functions = Functions(bench, source() + MATCHES)
    matched = 0
    for _ in range(3_000):
        text = "".join(chance.choices("ab", k=chance.randint(0, 8)))
        glob = chance.choice([text, "".join(chance.choices(GLOBS_OF, k=chance.randint(1, 8)))])
        glob = chance.choice([glob, f"*{glob}", f"{glob}*", f"*{glob}*"])
        found = await functions.call("matches", [], [glob, text])
        assert found == names.matches(glob, text), (glob, text)
        matched += found
    assert 500 < matched < 2_900
