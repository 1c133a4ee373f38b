"""W3C trace context: what is taken for one, and what is not."""

import pytest

from gateway.core import trace
from gateway.core.trace import Trace

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE_ID}-{SPAN_ID}-01"


def of(*parents: str, state: tuple[str, ...] = ()) -> Trace | None:
    headers = [(b"host", b"x"), *((b"traceparent", one.encode("latin-1")) for one in parents)]
    return trace.presented([*headers, *((b"tracestate", one.encode("latin-1")) for one in state)])


def test_a_context_is_read_and_written_alike() -> None:
    found = of(GOOD, state=("vendor=1",))
    assert found == Trace(trace_id=TRACE_ID, span_id=SPAN_ID, flags=1, state="vendor=1")
    assert found.sampled
    assert found.headers() == {"traceparent": GOOD, "tracestate": "vendor=1"}
    assert of() is None


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-00", 0),
        (f"00-{TRACE_ID}-{SPAN_ID}-03", 3),
        (f" 00-{TRACE_ID}-{SPAN_ID}-01\t", 1),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01", 1),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-be-like", 1),
    ],
)
def test_what_is_odd_but_right(parent: str, flags: int) -> None:
    found = of(parent)
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == (TRACE_ID, SPAN_ID, flags)
    assert found.headers()["traceparent"] == f"00-{TRACE_ID}-{SPAN_ID}-{flags:02x}", "we speak the first version"


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "hello",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}\u0663-{SPAN_ID}-01".encode().decode("latin-1"),
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
        f"cc-{TRACE_ID}-{SPAN_ID}-01.more",
        f"{GOOD},{GOOD}",
    ],
)
def test_what_is_malformed_is_as_if_it_were_not_there(parent: str) -> None:
    assert of(parent, state=("vendor=1",)) is None


def test_two_of_them_are_none() -> None:
    assert of(GOOD, GOOD) is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (("a=1", "b=2"), "a=1,b=2"),
        (("a=1 , b=2,,", ""), "a=1,b=2"),
        (("1-tenant@vendor=x y:z/!", "a_b*c=~"), "1-tenant@vendor=x y:z/!,a_b*c=~"),
        (("a=1,a=2",), ""),
        (("A=1",), ""),
        (("a=1,b",), ""),
        (("a=b=c",), ""),
        (("a=",), ""),
        (("a=\xe9",), ""),
        (("a=1\r\nX-Admin-Secret: no",), ""),
        (("a=" + "v" * 256,), "a=" + "v" * 256),
        (("a=" + "v" * 257,), ""),
        (tuple(f"k{number}=v" for number in range(32)), ",".join(f"k{number}=v" for number in range(32))),
        (tuple(f"k{number}=v" for number in range(33)), ""),
        (tuple(f"k{number}={'v' * 250}" for number in range(3)), ""),
    ],
)
def test_the_state_is_passed_on_whole_or_not_at_all(state: tuple[str, ...], kept: str) -> None:
    found = of(GOOD, state=state)
    assert found is not None
    assert found.state == kept
    assert ("tracestate" in found.headers()) == bool(kept)
