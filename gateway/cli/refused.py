"""What was not done and why, in words for the person at the keyboard."""

from typing import Any

SERVER_ERROR = 500
WRONG_PORT = "Is the admin API on a port of its own (ADMIN_PORT)? Then say which with --url."
HINTS = {"route_not_found": WRONG_PORT}


class Refused(Exception):
    """The gateway said no, or nothing at all. `unsure`: it may have been done all the same; `code`: its error's."""

    def __init__(self, words: str, *, unsure: bool = False, code: str = "") -> None:
        super().__init__(words)
        self.unsure = unsure
        self.code = code


def refusal(status: int, said: Any, wait: str | None, secret_from: str) -> Refused:
    """Of an error that the gateway answered. `wait` is its Retry-After; `secret_from` tells whose secret was shown."""
    hints = HINTS | {"invalid_admin_secret": f"The one that was sent is {secret_from}." if secret_from else ""}
    return Refused(_words(said, wait, hints), unsure=status >= SERVER_ERROR, code=_code(said))


def _code(said: Any) -> str:
    error = said.get("error") if isinstance(said, dict) else None
    return str(error.get("code") or "") if isinstance(error, dict) else ""


def _words(said: Any, wait: str | None, hints: dict[str, str]) -> str:
    """An error as people read it: its message and its code."""
    error = said.get("error", said) if isinstance(said, dict) else said
    if not isinstance(error, dict):
        return str(error)
    code = str(error.get("code") or "")
    parts = (
        str(error.get("message", error)),
        hints.get(code, ""),
        f"Retry-After: {wait} s." if wait else "",
        f"({code})" if code else "",
    )
    return " ".join(part for part in parts if part)
