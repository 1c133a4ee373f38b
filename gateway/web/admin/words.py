"""Texts that operators choose and others read: labels, addresses, notes. They come back in tables, logs and pages."""

import re
import unicodedata
from typing import Annotated, Any

from msgspec import Meta

from gateway.errors import BadRequest

NOTE_CHARS_MAX = 500
LABEL_CHARS_MAX = 64
EMAIL_CHARS_MAX = 254
Label = Annotated[str, Meta(min_length=1, max_length=LABEL_CHARS_MAX)]
Email = Annotated[str, Meta(max_length=EMAIL_CHARS_MAX)]
Note = Annotated[str, Meta(max_length=NOTE_CHARS_MAX)]
_EMAIL = r"([^@\s]+@[^@\s]+)?"
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""letters by their category, of which nothing is printed"""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def checked(text: Any, param: str) -> None:
    """Raises `BadRequest` for characters that are not seen, but change what is. What is no text passes."""
    if isinstance(text, str) and _CONTROL.search(text):
        raise BadRequest("This text must hold no control characters, nor any that turn its direction.", param=param)


def label(text: Any) -> None:
    """Raises `BadRequest` also for a label of which nothing would be seen."""
    checked(text, "label")
    if isinstance(text, str) and not any(map(_is_seen, text)):
        raise BadRequest("A label needs a character that is seen.", param="label")


def email(text: Any) -> None:
    checked(text, "owner_email")
    fits(text, _EMAIL, "owner_email", "Write an address as me@example.org, or leave it empty.")


def fits(text: Any, form: str, param: str, rule: str) -> None:
    """Raises `BadRequest` with the `rule` for a text that is not of that form as a whole. What is no text passes."""
    if isinstance(text, str) and not re.fullmatch(form, text):
        raise BadRequest(rule, param=param)


def _is_seen(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CMZ" and character not in _BLANK
