"""What a call's time went into, told from its bill when it has ended: nothing is measured for it on the way."""

from msgspec import Struct

from gateway.core.call import Bill

QUEUE, FAILED, PROMPT, GENERATION = "queue", "failed attempt", "load and prompt", "generation"


class Phase(Struct, frozen=True):
    """Milliseconds from the call's arrival. `backend` where one worked; `error`: the code of a failed attempt's."""

    name: str
    from_ms: int
    until_ms: int
    backend: str = ""
    error: str = ""


def of(bill: Bill) -> list[Phase]:
    """In their order. What went before the last attempt is laid out backwards from it, without the gaps between."""
    detail = bill.detail
    if bill.course is None:  # it waited in vain, or no backend could be reached
        at_ms, waited_ms, last = detail.response_time_ms, detail.queue_ms, []
    else:
        at_ms, waited_ms, last = bill.course.sent_ms, bill.course.waited_ms, _answer(bill, bill.course.sent_ms)
    phases = _waited(at_ms, waited_ms - sum(tried.queue_ms for tried in detail.attempts)) if waited_ms or last else []
    for tried in reversed(detail.attempts):
        until_ms = phases[0].from_ms if phases else at_ms
        from_ms = max(0, until_ms - tried.response_time_ms)
        phases.insert(0, Phase(FAILED, from_ms, until_ms, tried.backend, tried.status))
        phases = _waited(from_ms, tried.queue_ms) + phases
    return phases + last


def _waited(until_ms: int, waited_ms: int) -> list[Phase]:
    return [Phase(QUEUE, min(until_ms, max(0, until_ms - waited_ms)), until_ms)]


def _answer(bill: Bill, sent_ms: int) -> list[Phase]:
    """Where no token was seen on its way, the node's own figures say when it began to make them."""
    detail = bill.detail
    end_ms = max(sent_ms, detail.response_time_ms)
    began_ms = detail.first_token_ms or sent_ms + detail.load_ms + detail.prompt_ms
    if not bill.completion_tokens:
        return [Phase(PROMPT, sent_ms, end_ms, detail.backend)]
    began_ms = min(max(sent_ms, began_ms), end_ms)
    return [Phase(PROMPT, sent_ms, began_ms, detail.backend), Phase(GENERATION, began_ms, end_ms, detail.backend)]
