"""Everything that can go wrong: worded, coded, and honest about whether waiting helps."""

from collections import defaultdict

import pytest

from gateway.errors import (
    BackendBusy,
    BackendFault,
    BackendUnreachable,
    BadRequest,
    GatewayError,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    every_error,
)
from gateway.errors.base import MESSAGE_CHARS_MAX

EVERY = list(every_error())
STATUSES = {400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 499, 500, 502, 503, 504}
each = pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)


def test_the_tree_is_walked_whole_and_each_class_once() -> None:
    assert len(EVERY) == len(set(EVERY)) > 30
    assert EVERY[0] is GatewayError


@each
def test_every_error_has_a_status_a_code_and_words(kind: type[GatewayError]) -> None:
    assert kind.status in STATUSES
    assert kind.code.replace("_", "").isalnum()
    assert kind.code == kind.code.lower()
    assert "__doc__" in vars(kind), "it would speak in its parent's words"
    assert kind().message == " ".join((kind.__doc__ or "").split())
    assert kind().message.endswith(".")


@each
def test_more_exact_words_and_a_wait_replace_the_usual_ones(kind: type[GatewayError]) -> None:
    error = kind("exactly this", retry_after_s=9)
    assert (error.message, error.retry_after_s) == ("exactly this", 9)
    assert kind().retry_after_s == kind.retry_after_s


def test_a_code_means_one_thing() -> None:
    """Classes share a code only as kinds of one meaning: with one status, and all below the one that has it first."""
    families = defaultdict(list)
    for kind in EVERY:
        families[kind.code].append(kind)
    for kinds in families.values():
        assert all(issubclass(kind, kinds[0]) for kind in kinds)
        assert len({kind.status for kind in kinds}) == 1
    shared = {code for code, kinds in families.items() if len(kinds) > 1}
    assert shared == {"insufficient_quota", "rate_limit_exceeded"}


@each
def test_a_wait_is_named_exactly_where_waiting_helps(kind: type[GatewayError]) -> None:
    assert (kind.retry_after_s is not None) is issubclass(kind, RateLimited | Unavailable)
    assert kind.retry_after_s is None or kind.retry_after_s >= 1


@each
def test_429_and_503_are_one_of_the_kinds_that_say_whether_waiting_helps(kind: type[GatewayError]) -> None:
    assert (kind.status == 429) is issubclass(kind, RateLimited | QuotaExceeded)
    assert (kind.status == 503) is issubclass(kind, Unavailable)


@each
def test_only_what_a_backend_did_is_held_against_it(kind: type[GatewayError]) -> None:
    expected = "node" if kind is BackendUnreachable else "model" if issubclass(kind, BackendFault) else ""
    assert kind().blames == expected
    assert kind(blames="node").blames == "node"
    assert kind(blames="").blames == ""


@each
def test_only_what_another_backend_may_do_is_tried_elsewhere(kind: type[GatewayError]) -> None:
    assert kind().elsewhere == (kind in (BackendUnreachable, BackendBusy, ModelNotFound))
    assert kind(elsewhere=not kind.elsewhere).elsewhere is not kind.elsewhere


def test_an_outage_is_never_a_401() -> None:
    assert not [kind for kind in EVERY if kind.status == 401 and issubclass(kind, Unavailable)]


def test_an_error_repeats_little_of_what_caused_it() -> None:
    assert len(BadRequest("x" * 10_000_000).message) == MESSAGE_CHARS_MAX
