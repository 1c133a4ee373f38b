"""Answers of the plain routes."""

from msgspec import Struct


class ErrorAnswer(Struct, forbid_unknown_fields=True):
    error: str
    code: str
    detail: str


class Usage(Struct, forbid_unknown_fields=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Generated(Struct, forbid_unknown_fields=True):
    """The whole answer; or, where it is streamed, the last line, with what is left of its text."""

    response: str
    done: bool
    done_reason: str
    model: str
    id: str
    usage: Usage


class GeneratedPiece(Struct, forbid_unknown_fields=True):
    """A line of a streamed answer that is not its last."""

    response: str
    done: bool
