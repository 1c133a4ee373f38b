"""Ollama's version numbers, in order."""

import re

_NUMBERS = re.compile(r"\d+", re.ASCII)
_UNNUMBERED = "0.0.0"
"""what a build of one's own calls itself"""

Order = tuple[tuple[int, ...], bool, tuple[int, ...]]


def order(version: str) -> Order:
    """To sort by: 0.9.7 before 0.12.0-rc1 before 0.12.0 before 0.12.0-3-gabc, which is three commits later."""
    release, dash, rest = version.partition("-")
    candidate = bool(dash) and not rest[:1].isdigit()
    return _numbers(release), not candidate, _numbers(rest)


def older(version: str, than: str) -> bool:
    """Whether `version` came before `than`. Of one that says nothing, or is no number, nobody knows: False."""
    return known(version) and order(version) < order(than)


def known(version: str) -> bool:
    return bool(_numbers(version.partition("-")[0])) and version.partition("-")[0] != _UNNUMBERED


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, _NUMBERS.findall(text)))
