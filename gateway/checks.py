"""What is wrong with a setting's value although its type is right. The words never repeat it, for it may be secret."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway.core import addresses, node_url, samples, versions
from gateway.core.keys import SHARDS_MAX

URL_SCHEMES = {
    "REDIS_URL": ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster"),
    "DATABASE_URL": ("postgresql", "postgres"),
}
ADMIN_SECRET_CHARS_MIN = 16
PEPPER_CHARS_MIN = 32
PORT_MAX = 65_535
OWN_ONES = "make one of your own, as `make secrets` does"
_HOST = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9.-]*)(:[0-9]{1,5})?", re.ASCII)


def problem(name: str, value: Any) -> str:
    """What is wrong with a value of the right type; "" when nothing is. Never repeats a value that may be secret."""
    if name == "OLLAMA_BASE_URL":
        return _nodes_problem(value)
    if name in URL_SCHEMES:
        urls = (value,) if isinstance(value, str) else value
        return next(filter(None, (_url_problem(name, url) for url in urls if url)), "")
    if name.startswith("ADMIN_SECRET"):
        return _secret_problem(name, value)
    if name in ("KEY_PEPPER", "KEY_PEPPER_PREVIOUS"):
        return _pepper_problem(name, [value] if isinstance(value, str) else value)
    if name == "TRUSTED_PROXIES":
        return _networks_problem(name, value)
    if name == "CORS_ORIGINS":
        return _origins_problem(value)
    if name == "PULL_REGISTRIES" and not all(map(_HOST.fullmatch, value)):
        return "PULL_REGISTRIES must be host names, such as registry.ollama.ai, with a port where it is needed"
    if name == "OLLAMA_VERSION_MIN" and value and not versions.known(value):
        return "OLLAMA_VERSION_MIN must be a version of Ollama, such as 0.34.2"
    if name == "USAGE_MONTHS_KEPT" and value == 1:
        return "USAGE_MONTHS_KEPT is 1: use 0 for all, or at least 2, as calls of the last month may be stored late"
    if name == "SHARDS" and SHARDS_MAX % value:
        return f"SHARDS is {value}: use a power of two up to {SHARDS_MAX}"
    return ""


def _secret_problem(name: str, secret: str) -> str:
    if secret and len(secret) < ADMIN_SECRET_CHARS_MIN:
        return f"{name} is too short: use at least {ADMIN_SECRET_CHARS_MIN} characters"
    if not (secret.isascii() and secret.isprintable()):
        return f"{name}: use printable ASCII characters, as it travels in a header"
    return _sample_problem(name, [secret])


def _pepper_problem(name: str, peppers: Sequence[str]) -> str:
    if any(0 < len(pepper) < PEPPER_CHARS_MIN for pepper in peppers):
        return f"{name} is too short: use at least {PEPPER_CHARS_MIN} characters"
    if any("," in pepper for pepper in peppers):
        return f"{name} must have no comma: it would be split when it becomes a former one"
    return _sample_problem(name, peppers)


def _sample_problem(name: str, secrets: Sequence[str]) -> str:
    if any(map(samples.is_sample, secrets)):
        return f"{name} is a sample, which everybody knows: {OWN_ONES}"
    if any(secret and samples.is_monotonous(secret) for secret in secrets):
        return f"{name} has fewer than {samples.DIFFERENT_CHARS_MIN} different characters: {OWN_ONES}"
    return ""


def _networks_problem(name: str, networks: tuple[str, ...]) -> str:
    try:
        for network in networks:
            addresses.bounds(network)
    except ValueError:
        return f"{name} must be networks such as 10.0.0.0/8 or fd00::/8, or single addresses"
    return ""


def _origins_problem(origins: tuple[str, ...]) -> str:
    """Origins are compared letter by letter, so only what a browser could send is of any use."""
    if origins == ("*",) or all(map(_ORIGIN.fullmatch, origins)):
        return ""
    return "CORS_ORIGINS must be `*` alone, or origins as browsers write them, such as https://chat.example.org"


def _nodes_problem(urls: tuple[str, ...]) -> str:
    """Also that no two are one node: it would get twice the calls it can take."""
    try:
        checked = {node_url.checked(url) for url in urls}
    except ValueError as error:
        return f"OLLAMA_BASE_URL: {error}"
    if len({node_url.name_of(url) for url in checked}) < len(checked):
        return "OLLAMA_BASE_URL has one host and port twice; add nodes that differ by path as backends, with names"
    return ""


def _url_problem(name: str, url: str) -> str:
    """What is wrong with an address; the words never repeat it, for it may hold a password."""
    schemes = URL_SCHEMES[name]
    try:
        parts = urlsplit(url)
        is_address = all(map(_is_place, parts.netloc.rpartition("@")[2].split(",")))
    except ValueError:
        is_address = False
    if not is_address:
        return f"{name} is not an address: write it as {schemes[0]}://host:port"
    if parts.scheme not in schemes:
        return f"{name} must start with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if samples.has_sample_password(url):
        return f"{name} has a password that everybody tries first: {OWN_ONES}"
    return ""


def _is_place(text: str) -> bool:
    """Whether it is host, host:port, [address]:port or nothing. Postgres takes several, separated by commas."""
    port = text.rpartition("]")[2].partition(":")[2]
    return not port or (port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX)
