"""Secrets that are none: what examples show, and what is typed to get past a question."""

import re
from urllib.parse import parse_qs, unquote, urlsplit

DIFFERENT_CHARS_MIN = 8
DIGITS_MAX = 12
"""with more of them, words among them make no sample"""
_WORD = (  # none is made of others: else a text of many would be tried in every way
    "admin|api|bar|change|characters?|chars?|default|dummy|enter|example|foo|gateway|generate|here|insert|it|key|least|llm|"
    "long|make|me|my|now|of|ollama|own|owner|pass|passphrase|passwd|password|passwort|pepper|placeholder|please|postgres|"
    "postgresql|put|qwerty|random|redis|replace|root|sample|secret|secure|set|some|something|string|super|test|text|the|"
    "this|to|todo|token|user|value|very|with|worker|x|your"
)
_WORDS = re.compile(f"(?:{_WORD})+")
_ROWS = ("0123456789abcdef", "0123456789", "1234567890", "123456789", "abcdefghijklmnopqrstuvwxyz")
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?|)(?::\d*)?", re.ASCII)


def is_sample(secret: str) -> bool:
    """Whether it is nothing but usual sample words, however they are written and repeated, or a row of characters."""
    if not secret:
        return False
    lower = secret.lower()
    letters = re.sub("[^a-z]", "", lower)
    digits = sum(map(str.isdigit, lower))
    if letters and digits <= DIGITS_MAX and letters.isascii() and _WORDS.fullmatch(letters):
        return True
    return any((row * (len(lower) // len(row) + 1)).startswith(lower) for row in _ROWS)


def is_monotonous(secret: str) -> bool:
    return len(set(secret)) < DIFFERENT_CHARS_MIN


def has_sample_password(url: str) -> bool:
    """Whether a server that others reach is asked with a password that anybody would try first."""
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    places = parts.netloc.rpartition("@")[2].split(",") + [one for one in asked.get("host", []) if one[:1] != "/"]
    if all(map(_LOOPBACK.fullmatch, places)):
        return False
    passwords = [unquote(parts.password or ""), *asked.get("password", [])]
    user = unquote(parts.username or "")
    return any(password and (password == user or is_sample(password)) for password in passwords)
