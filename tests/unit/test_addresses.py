"""Addresses and networks are compared as text, IPv4 and IPv6 alike."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.addresses import NOBODY, bounds, digits, hashed, network

ADDRESS = st.ip_addresses()


@given(ADDRESS)
def test_an_address_has_one_text_however_it_is_written(address: IPv4Address | IPv6Address) -> None:
    text = digits(str(address))
    assert text
    assert len(text) == 32
    assert digits(f" {address.exploded} ") == text
    if isinstance(address, IPv4Address):
        assert digits(f"::ffff:{address}") == text


@given(ADDRESS, st.data())
def test_a_network_holds_what_lies_between_its_bounds(address: IPv4Address | IPv6Address, data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, address.max_prefixlen))
    other = data.draw(st.ip_addresses(v=address.version))
    found = ip_network(f"{address}/{bits}", strict=False)
    first, last = bounds(f"{address}/{bits}")
    for one in (address, other, found.network_address, found.broadcast_address):
        assert (first <= (digits(str(one)) or "") <= last) is (one in found)


def test_versions_do_not_mix_but_for_the_mapped_form() -> None:
    first, last = bounds("0.0.0.0/0")
    assert not first <= (digits("2001:db8::1") or "") <= last
    assert first <= (digits("::ffff:10.0.0.1") or "") <= last


@pytest.mark.parametrize("text", ["", "here", "1.2.3", "1.2.3.4:80", "[::1]", "1.2.3.4/33", "::/129"])
def test_what_is_no_network_is_refused(text: str) -> None:
    for read in (bounds, network):
        with pytest.raises(ValueError):
            read(text)


@pytest.mark.parametrize("text", ["", "unknown", "1.2.3", "1.2.3.4:80", "[::1]:80", "_hidden"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert digits(text) is None


@pytest.mark.parametrize(
    ("text", "spelling"), [("10.1.2.3/8", "10.0.0.0/8"), (" 10.1.2.3 ", "10.1.2.3/32"), ("FD00::1/8", "fd00::/8")]
)
def test_a_network_has_one_spelling(text: str, spelling: str) -> None:
    assert network(text) == spelling
    assert ip_address(spelling.partition("/")[0])


def test_a_hash_tells_addresses_apart_and_depends_on_the_secret() -> None:
    one, other = digits("192.0.2.7") or "", digits("192.0.2.8") or ""
    hashes = [hashed(address, secret) for address in (one, other, NOBODY) for secret in (b"", b"pepper", b"x" * 1_000)]
    assert len(set(hashes)) == 9
    assert all(len(text) == 16 and int(text, 16) for text in hashes)
    assert hashed(digits("::ffff:192.0.2.7") or "", b"pepper") == hashes[1], "the same address in another spelling"
