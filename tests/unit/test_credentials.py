"""Which key a request presents, and from where."""

from typing import Any

import pytest

from gateway.core import addresses
from gateway.core.addresses import Proxies
from gateway.core.keys import Credential, Peppers
from gateway.errors import BadRequest, FailuresLimited, Unauthorized
from gateway.state.failures import MINUTE_MS, Failures
from gateway.web.credentials import Door
from tests.fakes import KEY, SOURCE, STRANGER, credential_of

ONE, OTHER = KEY.encode(), STRANGER.encode()
AUTH, API, UNDERSCORE = b"authorization", b"x-api-key", b"x_api_key"
PER_MIN = 3


class Clock:
    """Milliseconds that a test moves."""

    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


def door(clock: Clock | None = None, *, per_min: int = 10**6, proxies: tuple[str, ...] = ()) -> Door:
    """Nothing of it may need Redis, so there is none."""
    unused: Any = None
    return Door(Peppers(), Proxies(proxies), Failures(unused, 1, clock or Clock(), per_min=per_min))


def scope(headers: list[tuple[bytes, bytes]], peer: str = "127.0.0.1") -> dict[str, Any]:
    return {"headers": headers, "client": (peer, 1)}


def presented(headers: list[tuple[bytes, bytes]]) -> Credential:
    credential, source = door().presented(scope(headers))
    assert source == SOURCE
    return credential


@pytest.mark.parametrize(
    "headers",
    [
        [(AUTH, b"Bearer " + ONE)],
        [(AUTH, b"bearer  " + ONE + b" ")],
        [(AUTH, b"BEARER " + ONE)],
        [(API, ONE)],
        [(API, b" " + ONE + b" ")],
        [(UNDERSCORE, ONE)],
        [(AUTH, b"Bearer " + ONE), (API, ONE), (UNDERSCORE, ONE)],
        [(API, ONE), (API, ONE)],
        [(AUTH, b"Basic dTpw"), (API, ONE)],
        [(AUTH, b"Bearer "), (API, ONE)],
        [(API, b""), (AUTH, b"Bearer " + ONE)],
        [(b"cookie", OTHER), (b"x-other", OTHER), (API, ONE)],
    ],
)
def test_a_key_is_found_wherever_clients_put_it(headers: list[tuple[bytes, bytes]]) -> None:
    assert presented(headers) == credential_of(KEY)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(API, b"")],
        [(AUTH, b"")],
        [(AUTH, b"Bearer")],
        [(AUTH, b"Bearer ")],
        [(AUTH, ONE)],
        [(AUTH, b"Basic " + ONE)],
        [(AUTH, b"Bearer sk-something")],
        [(API, ONE[:-1])],
        [(API, ONE + b" x")],
        [(API, b"\xff\xfe")],
        [(API, ONE * 10_000)],
        [(b"cookie", ONE)],
        [(b"proxy-authorization", b"Bearer " + ONE)],
    ],
)
def test_without_a_well_formed_key_nobody_is_known(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthorized):
        presented(headers)


@pytest.mark.parametrize("second", [(API, OTHER), (UNDERSCORE, OTHER), (AUTH, b"Bearer " + OTHER), (API, b"nonsense")])
def test_two_different_keys_are_refused_whichever_is_right(second: tuple[bytes, bytes]) -> None:
    for headers in ([(API, ONE), second], [second, (API, ONE)]):
        with pytest.raises(BadRequest, match="two different"):
            presented(headers)


def test_a_refusal_never_repeats_what_was_presented() -> None:
    for headers in ([(API, b"sk-secret-text")], [(API, ONE), (UNDERSCORE, OTHER)]):
        with pytest.raises((Unauthorized, BadRequest)) as caught:
            presented(headers)
        assert not any(secret in caught.value.message for secret in ("sk-secret", KEY, STRANGER))


def test_an_address_without_a_key_is_told_so_a_few_times_and_then_to_wait() -> None:
    clock = Clock()
    one = door(clock, per_min=PER_MIN)
    for _ in range(PER_MIN):
        with pytest.raises(Unauthorized):
            one.presented(scope([]))
    with pytest.raises(FailuresLimited) as caught:
        one.presented(scope([]))
    assert caught.value.retry_after_s == 60 // PER_MIN
    with pytest.raises(Unauthorized):
        one.presented(scope([], "127.0.0.2"))
    assert one.presented(scope([(API, ONE)]))[0] == credential_of(KEY), "a key is heard from anywhere"
    clock.ms += MINUTE_MS // PER_MIN
    with pytest.raises(Unauthorized):
        one.presented(scope([]))
    with pytest.raises(FailuresLimited):
        one.presented(scope([]))


def test_one_subscriber_is_one_address_however_many_it_has() -> None:
    one = door(per_min=PER_MIN)
    for number in range(PER_MIN):
        with pytest.raises(Unauthorized):
            one.presented(scope([], f"2001:db8::{number}"))
    with pytest.raises(FailuresLimited):
        one.presented(scope([], "2001:db8::ffff"))
    with pytest.raises(Unauthorized):
        one.presented(scope([], "2001:db8:0:1::1"))


FORWARDED = b"x-forwarded-for"
HOPS: list[tuple[str, tuple[str, ...], list[bytes], str]] = [
    ("192.0.2.1", (), [b"203.0.113.7"], "192.0.2.1"),
    ("192.0.2.1", ("192.0.2.0/24",), [b"203.0.113.7"], "203.0.113.7"),
    ("192.0.2.1", ("192.0.2.1",), [b"6.6.6.6, 203.0.113.7"], "203.0.113.7"),
    ("192.0.2.1", ("192.0.2.0/24",), [b"6.6.6.6, 203.0.113.7, 192.0.2.9"], "203.0.113.7"),
    ("192.0.2.1", ("192.0.2.0/24",), [b"6.6.6.6", b"203.0.113.7", b"192.0.2.9"], "203.0.113.7"),
    ("192.0.2.1", ("192.0.2.0/24",), [b"192.0.2.8, 192.0.2.9"], "192.0.2.8"),
    ("192.0.2.1", ("192.0.2.0/24",), [b"203.0.113.7, unknown"], "192.0.2.1"),
    ("192.0.2.1", ("192.0.2.0/24",), [b"203.0.113.7, "], "192.0.2.1"),
    ("192.0.2.1", ("192.0.2.0/24",), [], "192.0.2.1"),
    ("::1", ("::1/128",), [b"2001:db8::5"], "2001:db8::5"),
    ("::ffff:192.0.2.1", ("192.0.2.0/24",), [b"203.0.113.7"], "203.0.113.7"),
    ("", (), [b"203.0.113.7"], "::"),
]


@pytest.mark.parametrize(("peer", "trusted", "values", "source"), HOPS)
def test_the_source_is_the_rightmost_hop_that_no_trusted_proxy_is(
    peer: str, trusted: tuple[str, ...], values: list[bytes], source: str
) -> None:
    headers = [(FORWARDED, value) for value in values]
    assert door(proxies=trusted).source(scope(headers, peer)) == addresses.digits(source)


def test_a_long_list_of_hops_is_not_walked_for_ever() -> None:
    trusted = b", ".join([b"192.0.2.9"] * 10_000)
    found = door(proxies=("192.0.2.0/24",)).source(scope([(FORWARDED, b"203.0.113.7, " + trusted)], "192.0.2.1"))
    assert found == addresses.digits("192.0.2.9")


def test_a_client_without_an_address_has_a_source_all_the_same() -> None:
    assert door().source({"headers": [], "client": None}) == addresses.NOBODY
