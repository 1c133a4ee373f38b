"""A `.env` file: NAME=value lines; `#` comments, `export ` and a pair of quotes are allowed."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path


def read(path: Path, names: Sequence[str], problems: list[str]) -> dict[str, str]:
    """Its values by name. Adds a problem for each line that is none, and each name that is not among `names`."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError):
        problems.append(f"{path.name} cannot be read as UTF-8 text")
        return {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not equals:
            problems.append(f"{path.name} line {number}: expected NAME=value")
        elif name not in names:
            problems.append(f"{path.name} line {number}: no setting is called {name}{_nearest(name, names)}")
        else:
            found[name] = _unquoted(value)
    return found


def _unquoted(value: str) -> str:
    """What stands between a pair of quotes, else all up to a comment."""
    quote = value[:1]
    if quote and quote in "\"'":
        inner, closing, rest = value[1:].partition(quote)
        if closing and (not rest.strip() or rest.lstrip().startswith("#")):
            return inner
    return value.split(" #", 1)[0].strip()


def _nearest(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name.upper(), names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
