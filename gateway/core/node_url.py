"""The URL of a node, as operators give it. Pure; words on what is wrong never repeat it, for it may hold a password."""

import re
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from gateway.core.fleet import URL_CHARS_MAX

_FORM = "Write it as http://host:port or https://host:port."
_PLACE = re.compile(r"([a-z0-9]([a-z0-9._-]*[a-z0-9.])?|\[[0-9a-f:.]*:[0-9a-f:.]*\])(:[0-9]+)?", re.ASCII)
_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)


def checked(text: str) -> str:
    """The one spelling of the URL: small letters before the path, no slash at its end. Raises `ValueError` with why.

    It may have a path, which comes before those of Ollama's API.
    """
    text = text.strip()
    if len(text) > URL_CHARS_MAX:
        raise ValueError(f"It is longer than {URL_CHARS_MAX} characters.")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(f"It holds characters that no URL has. {_FORM}")
    try:
        parts = urlsplit(text)
        place, port = parts.netloc.lower(), parts.port
    except ValueError:
        raise ValueError(f"It is no URL. {_FORM}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"It has to begin with http:// or https://. {_FORM}")
    if "@" in parts.netloc:
        raise ValueError("It must hold no user or password: give a bearer beside it.")
    if "?" in text or "#" in text:
        raise ValueError("It must have no query and no fragment.")
    if not _PLACE.fullmatch(place) or port == 0:
        raise ValueError(f"It names no host. {_FORM}")
    if _NUMBERS.fullmatch(place.partition(":")[0]) and not _is_ipv4(place.partition(":")[0]):
        raise ValueError(f"Its address is no IPv4 address. {_FORM}")
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError("Its path is no plain one.")
    return f"{parts.scheme}://{place}{path}"


def _is_ipv4(text: str) -> bool:
    try:
        return bool(IPv4Address(text))
    except ValueError:
        return False


def name_of(url: str) -> str:
    """Host and port, which a node is called that nobody has named; they hold no secret."""
    return urlsplit(url).netloc.rpartition("@")[2]
