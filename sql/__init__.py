"""The database as source files: the schema as a whole, the migrations that lead to it, the statements by name.

    schema.sql             for readers; a test holds it equal to the migrations
    migrations/NNNN_*.sql  what runs, in this order, each in one transaction
    queries/*.sql          every statement the program sends, each under a line `-- name: …`

Nothing is read before it is asked for.
"""

import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType

from msgspec import Struct

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)
_MIGRATION = re.compile(r"[0-9]{4}_[a-z0-9_]+\.sql")


class Migration(Struct, frozen=True):
    """One step. `name` is its file's, without the ending."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """hex SHA-256 of the text"""
        return sha256(self.text.encode()).hexdigest()


def parse(text: str) -> dict[str, str]:
    """The statements of one file by name, comments included. Raises `ValueError` when a name is taken twice."""
    _, *parts = _NAME.split(text)
    names = parts[::2]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"statements named twice: {', '.join(sorted(twice))}")
    return {name: body.strip() for name, body in zip(names, parts[1::2], strict=True)}


@cache
def queries() -> Mapping[str, str]:
    """Every named statement. Read once."""
    texts = [file.read_text("utf-8") for file in (files("sql") / "queries").iterdir() if file.name.endswith(".sql")]
    return MappingProxyType(parse("\n".join(texts)))


def migrations() -> list[Migration]:
    """All steps, first to last. Raises `ValueError` for a file that has no number."""
    found = {file.name: file for file in (files("sql") / "migrations").iterdir() if file.name.endswith(".sql")}
    if odd := [name for name in found if not _MIGRATION.fullmatch(name)]:
        raise ValueError(f"not named NNNN_what.sql: {', '.join(sorted(odd))}")
    return [Migration(name.removesuffix(".sql"), found[name].read_text("utf-8")) for name in sorted(found)]


def schema() -> str:
    """schema.sql"""
    return (files("sql") / "schema.sql").read_text("utf-8")
