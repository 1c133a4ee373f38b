"""Which key a request presents."""

import pytest

from gateway.core import keys
from gateway.errors import BadRequest, Unauthorized
from gateway.web.credentials import presented
from tests.fakes import KEY, STRANGER

ONE, OTHER = KEY.encode(), STRANGER.encode()
AUTH, API, UNDERSCORE = b"authorization", b"x-api-key", b"x_api_key"


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
    assert presented(headers) == keys.read(KEY)


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
