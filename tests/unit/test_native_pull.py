"""Lines of a pull, and which of them are told."""

import pytest

from gateway.dialects.native import pull as native_pull
from gateway.dialects.native.pull import GAP_MS_MIN, Pace, Progress
from gateway.errors import BackendFault


def test_a_line_is_progress_or_the_reason_of_a_failure() -> None:
    line = b'{"status":"pulling aa","digest":"sha256:aa","total":9,"completed":3,"more":1}'
    assert native_pull.read(line) == Progress("pulling aa", "sha256:aa", 9, 3)
    with pytest.raises(BackendFault, match="manifest: file does not exist"):
        native_pull.read(b'{"error":"pull model manifest: file does not exist"}')
    for broken in (b"", b"{", b"\xff", b"[]", b'{"total":"x"}', b"[" * 100_000):
        with pytest.raises(BackendFault):
            native_pull.read(broken)


def test_the_request_never_allows_a_registry_without_tls() -> None:
    assert native_pull.encode("hf.co/a/B:Q4") == b'{"model":"hf.co/a/B:Q4","stream":true}'


def test_what_differs_in_bytes_alone_is_told_ten_times_a_second() -> None:
    pace = Pace()
    steps = [(Progress("pulling", "aa", 900, done), done) for done in range(900)]
    told = [step.completed for step, now_ms in steps if pace.due(step, now_ms)]
    assert told == [0, *range(GAP_MS_MIN, 900, GAP_MS_MIN)]


def test_what_is_new_is_told_at_once() -> None:
    pace = Pace()
    steps = [Progress("pulling manifest"), Progress("pulling", "aa"), Progress("pulling", "bb"), Progress("success")]
    assert all(pace.due(step, 0) for step in steps)
    assert not pace.due(steps[-1], GAP_MS_MIN - 1)
