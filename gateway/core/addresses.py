"""Network addresses: whose request it is behind proxies, and which networks a key may be used from. Pure.

Every address is compared as 32 hex digits of IPv6, an IPv4 one in its mapped form: one comparison does for both.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

HOPS_MAX = 32
ADDRESS_CHARS_MAX = 100
"""with its zone, and spaces around it"""
REMEMBERED_MAX = 4_096
"""addresses whose digits are kept at hand: clients call more than once"""
SECRETS_MAX = 2
"""that are at hand: a replica has one"""
MAPPED_BITS = 96
NOBODY = "0" * 32
"""the address of a client that has none, such as one on a unix socket"""


def digits(address: str) -> str | None:
    """The address as 32 hex digits; None when it is none. A zone or a port is not part of one."""
    return _digits(address) if len(address) <= ADDRESS_CHARS_MAX else None


@lru_cache(REMEMBERED_MAX)
def _digits(address: str) -> str | None:
    try:
        parsed = ip_address(address.strip())
    except ValueError:
        return None
    whole = parsed if isinstance(parsed, IPv6Address) else IPv6Address(f"::ffff:{parsed}")
    return f"{int(whole):032x}"


def hashed(address: str, secret: bytes) -> str:
    """What usage rows say of an address (as `digits`): 16 hex digits, equal for equal addresses and secrets.

    Without a secret anybody can find the address of a hash by trying them all.
    """
    return blake2b(bytes.fromhex(address), key=_hash_key(secret), digest_size=8).hexdigest()


@lru_cache(SECRETS_MAX)
def _hash_key(secret: bytes) -> bytes:
    """The secret in a length that the hash takes."""
    return sha256(secret).digest() if secret else b""


def network(text: str) -> str:
    """A CIDR in its one spelling; a single address is a network of itself. Raises `ValueError`."""
    return str(ip_network(text.strip(), strict=False))


def bounds(cidr: str) -> tuple[str, str]:
    """The first and the last address of a network, as `digits`. Raises `ValueError`."""
    whole = _mapped(ip_network(cidr, strict=False))
    return f"{int(whole.network_address):032x}", f"{int(whole.broadcast_address):032x}"


class Proxies:
    """The networks of the proxies whose X-Forwarded-For is believed. Raises `ValueError` for a text that is none."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._bounds = [bounds(cidr) for cidr in cidrs]

    def source(self, peer: str, forwarded: Sequence[str]) -> str:
        """Where a request comes from, as `digits`: the rightmost hop that is no trusted proxy.

        `forwarded` are the values of X-Forwarded-For in their order. A hop that is no address ends the search: the
        proxy that reported it is then the nearest thing to a source there is.
        """
        source = digits(peer) or NOBODY
        hops = [hop for value in forwarded for hop in value.split(",")]
        for hop in reversed(hops[-HOPS_MAX:]):
            if not self._trusts(source) or (nearer := digits(hop)) is None:
                break
            source = nearer
        return source

    def _trusts(self, address: str) -> bool:
        return any(first <= address <= last for first, last in self._bounds)


def _mapped(found: IPv4Network | IPv6Network) -> IPv6Network:
    if isinstance(found, IPv6Network):
        return found
    return IPv6Network(f"::ffff:{found.network_address}/{MAPPED_BITS + found.prefixlen}")
