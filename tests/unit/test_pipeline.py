"""The life of a call, with everything around it made up: whatever happens, it is settled once."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Bill
from gateway.dialects import plain
from gateway.dialects.frames import LINE_BYTES_MAX
from gateway.dialects.ollama import GenerateRequest
from gateway.dialects.openai import completions
from gateway.errors import (
    BackendBusy,
    BackendTimeout,
    CallAbandoned,
    Draining,
    GatewayError,
    LeaseLost,
    ModelNotFound,
    StreamBroken,
)
from gateway.gate import Gate
from gateway.outbox import Outbox
from gateway.pipeline import Pipeline
from gateway.running import Running
from tests import fakes
from tests.fakes import MODEL, STRANGER, FakeFleet, FakeLeases, FakeObserver, asked, call, credential_of, turns

TURNS_MAX = 60
ONE, TWO = b'{"message":{"content":"a"}}\n', b'{"message":{"content":"b"}}\n'
LAST = b'{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}\n'
WHOLE = b'{"message":{"content":"ab"},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}'


class Life:
    """One call, from its start to its end, and what its client got."""

    def __init__(self, fleet: FakeFleet, leases: FakeLeases | None = None, **changes: Any) -> None:
        self.leases = leases or FakeLeases()
        self.fleet = fleet
        self.out = Outbox()
        self.got = b""
        self.observer = FakeObserver()
        self.running = Running()
        self._call = call(**changes)
        self._pipeline = Pipeline(self.leases, fleet, lambda: 100, self.observer, Gate())

    def start(self, renderer: Any = None) -> "Life":
        renderer = renderer or asked().renderer(self._call.id, 1)
        self.running.start(self._pipeline.run(self._call, renderer, self.out), self.out)
        return self

    async def end(self) -> "Life":
        """Take what is there for the client, and wait for the call."""
        while (piece := await self.out.take()) is not None:
            self.got += piece
        assert await self.running.drain(5) == 0
        return self

    @property
    def bill(self) -> Bill:
        """The bill of a call that was settled as it must be: once."""
        assert self.leases.closings == [self._call.id]
        assert len(self.leases.bills) == 1
        assert self.observer.bills == self.leases.bills
        assert self.leases.running == 0
        assert self.fleet.left == self.fleet.asked
        return self.leases.bills[0]

    @property
    def charged(self) -> tuple[int, int, bool]:
        return self.bill.prompt_tokens, self.bill.completion_tokens, self.bill.paid

    def frames(self) -> list[str]:
        """What each frame says: its text, its reason, its error's code, or [DONE]."""
        said = []
        for frame in filter(None, self.got.decode().split("\n\n")):
            data = frame.removeprefix("data: ")
            body = {"done": data} if data == "[DONE]" else msgspec.json.decode(data)
            if "choices" in body:
                (choice,) = body["choices"]
                said.append(choice["finish_reason"] or choice["delta"]["content"])
            else:
                said.append(body["error"]["code"] if "error" in body else data)
        return said


async def test_a_streamed_answer_arrives_in_order_and_is_charged_as_counted() -> None:
    life = await Life(FakeFleet(ONE, TWO, LAST)).start().end()
    assert life.frames() == ["a", "b", "stop", "[DONE]"]
    assert (life.charged, life.bill.detail.status, life.bill.detail.backend) == ((3, 2, True), "ok", "node")


async def test_a_whole_answer_is_one_object_and_charged_as_counted() -> None:
    life = await Life(FakeFleet(WHOLE[:9], WHOLE[9:]), streamed=False).start().end()
    assert msgspec.json.decode(life.got)["choices"][0]["message"]["content"] == "ab"
    assert life.charged == (3, 2, True)


@pytest.mark.parametrize(
    "body", [(ONE + TWO + LAST,), tuple(b"%c" % c for c in ONE + TWO + LAST), (ONE, TWO + LAST[:-1])]
)
async def test_the_answer_is_the_same_however_it_arrives(body: tuple[bytes, ...]) -> None:
    life = await Life(FakeFleet(*body)).start().end()
    assert life.frames() == ["a", "b", "stop", "[DONE]"]
    assert life.charged == (3, 2, True)


async def test_what_arrives_together_leaves_together() -> None:
    life = Life(FakeFleet(ONE + TWO, asyncio.Event())).start()
    assert (await life.out.take() or b"").count(b"data: ") == 2
    life.out.leave()
    await life.end()


async def test_nothing_after_the_end_is_relayed() -> None:
    life = await Life(FakeFleet(LAST + ONE, ONE)).start().end()
    assert life.frames() == ["", "stop", "[DONE]"]


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_end_is_sent_only_once_the_call_is_settled(streamed: bool) -> None:
    settle = asyncio.Event()
    body = (ONE, LAST) if streamed else (WHOLE,)
    life = Life(FakeFleet(*body), FakeLeases(closing=settle), streamed=streamed).start()
    await turns(TURNS_MAX)
    assert life.leases.closings
    assert b"stop" not in bytes(life.out._waiting)
    settle.set()
    await life.end()
    assert b'"finish_reason":"stop"' in life.got


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "unknown key": ({}, {}, {"credential": credential_of(STRANGER)}, "invalid_api_key"),
    "over a limit": ({"requests": 0}, {}, {}, "rate_limit_exceeded"),
    "no backend": ({}, {"objection": "no_backend"}, {}, "no_backend"),
    "no such model": ({}, {"objection": "model_not_found"}, {}, "model_not_found"),
}


@pytest.mark.parametrize(("leases", "fleet", "changes", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_call_touches_no_backend_and_settles_nothing(
    leases: Any, fleet: Any, changes: Any, code: str
) -> None:
    life = await Life(FakeFleet(ONE, LAST, **fleet), FakeLeases(**leases), **changes).start().end()
    assert life.out.refusal
    assert life.out.refusal.code == code
    assert (life.got, life.fleet.asked, life.leases.closings, life.observer.bills) == (b"", 0, [], [])


FAULTS: dict[str, tuple[tuple[fakes.Step, ...], str]] = {
    "a time-out": ((BackendTimeout(),), "backend_timeout"),
    "a refusal": ((ModelNotFound(),), "model_not_found"),
    "busy": ((BackendBusy(),), "backend_busy"),
    "a broken connection": ((StreamBroken(),), "stream_broken"),
    "nothing": ((), "stream_broken"),
    "garbage": ((b"<html>\n",), "stream_broken"),
    "bytes that are no text": ((b'{"response":"\xff"}\n',), "stream_broken"),
    "an error line": ((b'{"error":"boom"}\n',), "stream_broken"),
    "half a line": ((ONE[:9],), "stream_broken"),
    "a line without end": ((b"x" * (LINE_BYTES_MAX + 1),), "stream_broken"),
}


@pytest.mark.parametrize(("steps", "code"), FAULTS.values(), ids=FAULTS)
async def test_a_failure_before_the_first_byte_is_a_status_and_costs_nothing(
    steps: tuple[fakes.Step, ...], code: str
) -> None:
    life = await Life(FakeFleet(*steps)).start().end()
    assert life.out.refusal
    assert (life.out.refusal.code, life.got) == (code, b"")
    assert (life.charged, life.bill.detail.status) == ((0, 0, False), code)


@pytest.mark.parametrize(("steps", "code"), FAULTS.values(), ids=FAULTS)
async def test_a_failure_after_the_first_byte_is_a_frame_and_costs_nothing(
    steps: tuple[fakes.Step, ...], code: str
) -> None:
    life = await Life(FakeFleet(ONE, *steps)).start().end()
    assert (life.frames(), life.out.refusal) == (["a", code], None)
    assert (life.charged, life.bill.detail.status) == ((0, 0, False), code)


async def test_what_came_before_garbage_in_one_piece_is_still_sent() -> None:
    life = await Life(FakeFleet(ONE + b"<html>\n" + TWO)).start().end()
    assert life.frames() == ["a", "stream_broken"]


@pytest.mark.parametrize("head", [BackendTimeout(), ModelNotFound(), BackendBusy()], ids=lambda error: error.code)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_backend_that_refuses_is_a_status(head: GatewayError, streamed: bool) -> None:
    life = await Life(FakeFleet(head=head), streamed=streamed).start().end()
    assert life.out.refusal is head
    assert (life.charged, life.bill.detail.http_status) == ((0, 0, False), head.status)


@pytest.mark.parametrize("body", [b"", b"{", WHOLE.replace(b"true", b"false"), b'{"error":"x"}', b"\xff"])
async def test_a_whole_answer_that_is_none_is_a_failure(body: bytes) -> None:
    life = await Life(FakeFleet(body), streamed=False).start().end()
    assert life.out.refusal
    assert (life.out.refusal.code, life.charged) == ("stream_broken", (0, 0, False))


async def test_a_client_that_leaves_ends_the_exchange_and_pays_for_what_was_made() -> None:
    life = Life(FakeFleet(ONE, TWO, asyncio.Event())).start()
    await turns(TURNS_MAX)
    assert life.fleet.left == 0
    life.out.leave()
    await life.end()
    assert (life.charged, life.bill.detail.status, life.bill.estimated) == ((10, 2, True), "client_gone", True)


async def test_a_client_that_leaves_before_it_is_admitted_is_settled_without_a_charge() -> None:
    admit = asyncio.Event()
    life = Life(FakeFleet(ONE, LAST), FakeLeases(opening=admit)).start()
    await turns(3)
    life.out.leave()
    admit.set()
    await life.end()
    assert life.bill.detail.status == "client_gone"
    assert (life.bill.completion_tokens, life.bill.paid) == (0, False)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_before_the_answer_begins_pays_for_its_prompt(streamed: bool) -> None:
    life = Life(FakeFleet(head=asyncio.Event()), streamed=streamed).start()
    await turns(TURNS_MAX)
    life.out.leave()
    await life.end()
    assert (life.charged, life.bill.detail.status) == ((10, 0, False), "client_gone")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_while_the_call_is_settled_changes_nothing(streamed: bool) -> None:
    settle = asyncio.Event()
    body = (ONE, LAST) if streamed else (WHOLE,)
    life = Life(FakeFleet(*body), FakeLeases(closing=settle), streamed=streamed).start()
    await turns(TURNS_MAX)
    life.out.leave()
    await turns(3)
    settle.set()
    await life.end()
    assert (life.charged, life.bill.detail.status) == ((3, 2, True), "ok")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("gone", [True, False])
async def test_an_answer_that_was_complete_is_charged_as_counted_and_sent_whatever_comes_after(
    streamed: bool, gone: bool
) -> None:
    """The backend has said `done`, only its connection has not ended: the client leaves, or the replica stops."""
    body = (ONE, LAST) if streamed else (WHOLE,)
    tail = asyncio.Event()
    life = Life(FakeFleet(*body, tail=tail), streamed=streamed).start()
    await turns(TURNS_MAX)
    life.out.leave() if gone else life.running.cut()
    await turns(3)
    tail.set()
    await life.end()
    assert (life.charged, life.bill.estimated) == ((3, 2, True), False)
    assert gone or b'"finish_reason":"stop"' in life.got


async def test_a_cut_call_tells_its_client_and_is_charged_for_what_was_made() -> None:
    life = Life(FakeFleet(ONE, asyncio.Event())).start()
    await turns(TURNS_MAX)
    life.running.cut()
    await life.end()
    assert life.frames() == ["a", "draining"]
    assert (life.charged, life.bill.detail.status) == ((10, 1, True), "draining")


async def test_a_call_that_is_cut_before_its_answer_is_refused_with_a_status() -> None:
    life = Life(FakeFleet(head=asyncio.Event())).start()
    await turns(TURNS_MAX)
    life.running.cut()
    await life.end()
    assert life.out.refusal
    assert (life.out.refusal.code, life.charged) == ("draining", (0, 0, False))


async def test_a_call_whose_lease_is_lost_is_ended_and_told_so() -> None:
    life = Life(FakeFleet(ONE, asyncio.Event())).start()
    await turns(TURNS_MAX)
    life.leases.cuts[0](LeaseLost())
    await life.end()
    assert life.frames() == ["a", "lease_lost"]
    assert life.bill.detail.status == "lease_lost"


class Broken(plain.Renderer):
    """Fails as nobody planned for."""

    def feed(self, *_: Any) -> bytes:
        raise ZeroDivisionError

    whole = feed


@pytest.mark.parametrize(("streamed", "body"), [(True, ONE), (False, WHOLE)])
async def test_a_failure_that_nobody_planned_for_is_settled_and_told_too(streamed: bool, body: bytes) -> None:
    """Else its lease would be renewed for ever, and hold what it had reserved."""
    life = Life(FakeFleet(body), streamed=streamed)
    await life.start(Broken("id", 1)).end()
    assert (life.charged, life.bill.detail.status) == ((0, 0, False), "internal_error")
    assert life.out.refusal
    assert life.out.refusal.status == 500
    assert [type(error) for error in life.observer.surprises] == [ZeroDivisionError]


STEPS = st.lists(
    st.sampled_from([ONE, TWO, ONE + TWO, ONE[:9], LAST, b"<html>\n", b'{"error":"x"}\n', "wait", StreamBroken]),
    max_size=5,
)


async def _disturbed(steps: list[Any], at: int, how: str, streamed: bool) -> Life:
    body = [asyncio.Event() if step == "wait" else step() if step is StreamBroken else step for step in steps]
    life = Life(FakeFleet(*body), streamed=streamed).start()
    await turns(at)
    life.out.leave() if how == "leave" else life.out.cut(Draining())
    for step in body:
        if isinstance(step, asyncio.Event):
            step.set()
    return await life.end()


@settings(deadline=None)
@given(STEPS, st.integers(0, TURNS_MAX), st.sampled_from(["leave", "cut"]), st.booleans())
def test_wherever_a_call_is_disturbed_it_is_settled_exactly_once(
    steps: list[Any], at: int, how: str, streamed: bool
) -> None:
    life = asyncio.run(_disturbed(steps, at, how, streamed))
    if not life.out.admission:  # it was too early: nothing was asked, held or charged
        assert (life.leases.closings, life.fleet.asked, life.observer.bills) == ([], 0, [])
        assert isinstance(life.out.refusal, CallAbandoned if how == "leave" else Draining)
        return
    bill = life.bill
    if bill.detail.status not in ("ok", "client_gone", "draining"):
        assert life.charged == (0, 0, False)
    assert bill.completion_tokens <= 2 * len(steps) + 2
    if how == "cut":  # the client is still there: it is told one end, and nothing after it
        ends = [frame for frame in life.frames() if len(frame) > 1 and frame != "stop"] if streamed else []
        assert len(ends) + bool(life.out.refusal) + (not streamed and bool(life.got)) == 1


MORE = (GenerateRequest(prompt="and?"),)
GENERATED = [
    b'{"response":"a"}\n',
    b'{"response":"b","done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}\n',
]


def several(**fields: Any) -> Any:
    """The renderer of a completion with two prompts."""
    body = {"model": MODEL, "prompt": ["why?", "and?"]} | fields
    return completions.parse(msgspec.json.encode(body)).renderer("id", 1)


async def test_a_list_of_prompts_is_one_call_with_one_bill() -> None:
    life = await Life(FakeFleet(*GENERATED), further=MORE).start(several(stream=True)).end()
    assert life.fleet.asked == 2
    assert (life.charged, life.bill.detail.status) == ((6, 4, True), "ok")
    assert life.got.count(b"[DONE]") == 1
    assert [line.count(b'"index":1') for line in life.got.split(b"\n\n")[:6]] == [0, 0, 0, 1, 1, 1]


async def test_a_list_of_prompts_that_is_not_streamed_is_one_object() -> None:
    life = await Life(FakeFleet(GENERATED[1]), further=MORE, streamed=False).start(several()).end()
    assert [one["text"] for one in msgspec.json.decode(life.got)["choices"]] == ["b", "b"]
    assert life.charged == (6, 4, True)


async def test_when_one_of_several_fails_nothing_is_charged() -> None:
    fleet = FakeFleet(*GENERATED)
    life = Life(fleet, further=MORE)
    fleet.fails_after = 1
    await life.start(several(stream=True)).end()
    assert (life.charged, life.bill.detail.status) == ((0, 0, False), "backend_busy")
    assert b"backend_busy" in life.got
    assert b"[DONE]" not in life.got


async def test_each_of_several_answers_has_its_share_of_what_is_granted() -> None:
    fleet = FakeFleet(*GENERATED)
    await Life(fleet, further=MORE).start(several(stream=True)).end()
    assert fleet.caps == [50, 50]  # of 100
