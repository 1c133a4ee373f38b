"""What no flag may say, whatever the command."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from typing import Any

SCHEMES = ("http://", "https://")
NAMED = {
    "id": "ID or --id",
    "name": "NAME",
    "key_id": "--key",
    "team_id": "--team",
    "team": "--team",
    "tier": "--tier",
    "model": "the model",
    "object": "--object",
    "action": "--action",
    "actor": "--actor",
    "backend": "--backend",
    "status": "--status",
}
"""what holds an id or a name, and how people call it"""
DOTS = (".", "..")
"""as a part of a path they name another one, which is gone before the gateway sees it"""


def gateway_url(text: str) -> str:
    """The flag --url."""
    scheme = next((one for one in SCHEMES if text.startswith(one)), None)
    if scheme is None:
        raise ArgumentTypeError(f"{text!r} needs http:// or https:// before it")
    if not text.removeprefix(scheme).strip("/"):
        raise ArgumentTypeError(f"{text!r} says no host: write it as http://127.0.0.1:8000")
    return text


def misspelt(options: Namespace) -> str:
    """What is wrong with texts that cannot be meant, such as an id from a variable that was not set; "" for nothing."""
    for flag, words in NAMED.items():
        value = getattr(options, flag, None)
        if isinstance(value, str) and (not value.strip() or value in DOTS):
            return f"{value!r} names nothing: {words} has to say which one is meant"
    for flag, value in vars(options).items():
        if any(not _is_unicode(text) for text in _texts(value)):
            return f"{NAMED.get(flag, '--' + flag.replace('_', '-'))} is not in UTF-8"
    return ""


def _texts(value: Any) -> Iterator[str]:
    """The texts in a flag's value: one, or those of a flag that may be repeated."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _is_unicode(text: str) -> bool:
    """Bytes of the command line that are not UTF-8 come as lone surrogates, which cannot be sent."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
