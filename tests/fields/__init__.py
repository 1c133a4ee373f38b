"""What becomes of every field of a request, by surface: the lists that README's table is compared with."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal

from msgspec import Struct

from gateway.dialects.asked import Asked

Fate = Literal["passed", "translated", "refused", "ignored"]


class Field(Struct, frozen=True):
    """One field of a request. `value` is an example that has the fate; `note` is README's: how, or why not.

    `code` is that of the error of a refused one. `base`, where given, are fields that the example needs beside it.
    """

    name: str
    fate: Fate
    note: str
    value: Any
    code: str = ""
    base: dict[str, Any] = {}


class Surface(Struct, frozen=True, kw_only=True):
    """One route's requests. `body` is a small valid one; `known` are the fields that its client library has."""

    route: str
    parse: Callable[[bytes], Asked]
    body: dict[str, Any]
    known: frozenset[str]
    fields: list[Field]


def surfaces() -> list[Surface]:
    """Every list of this package."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Surface)]
