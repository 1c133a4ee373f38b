"""Answers of the plain routes."""

from msgspec import UNSET, Struct, UnsetType


class ErrorAnswer(Struct, forbid_unknown_fields=True):
    error: str
    code: str
    detail: str


class Usage(Struct, forbid_unknown_fields=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Generated(Struct, forbid_unknown_fields=True):
    response: str
    done: bool
    done_reason: str
    model: str
    id: str
    usage: Usage


class GeneratedLine(Struct, forbid_unknown_fields=True):
    """A line of a streamed answer: a piece of it, or, with `done`, its end."""

    response: str
    done: bool
    done_reason: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
